"""vLLM's engine client with a health check that finds a hanging engine."""

import asyncio

from vllm.v1.engine.async_llm import AsyncLLM

_DEAD_POLL_S = 1
"""How often the engine process is checked during a health call, as a dead one never answers."""


class Llm(AsyncLLM):  # type: ignore[misc]  # vLLM has no types
    """vLLM's engine client."""

    async def check_health(self) -> None:
        """Checks what vLLM checks, and that its engine process answers between two steps: a process
        that hangs is not healthy."""
        answer = asyncio.ensure_future(self.is_sleeping())
        try:
            while not answer.done():
                await super().check_health()
                await asyncio.wait([answer], timeout=_DEAD_POLL_S)
            await super().check_health()
        finally:
            answer.cancel()

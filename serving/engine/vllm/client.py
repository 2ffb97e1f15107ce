"""vLLM's engine client, through which every endpoint of its application generates."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from prometheus_client import Counter
from vllm.exceptions import GenerationError, VLLMClientError
from vllm.v1.engine.async_llm import AsyncLLM

from serving.engine import prompt_tokens
from serving.engine.loop_guard import STOP_REASON

_DEAD_POLL_S = 1
"""How often the engine process is checked during a health call, as a dead one never answers."""

LOOP_STOPS = Counter(
    "mistral_serve_loop_stops",
    "Answers stopped because they repeated themselves endlessly.",
    ["model_name"],
)
"""Registered in the default registry, which vLLM's own /metrics exposes."""


class ConstraintError(GenerationError, VLLMClientError):  # type: ignore[misc]  # vLLM has no types
    """The answer cannot take the form that the request asks for: a client error, 400.

    It has two base classes of vLLM's, because its endpoints end a stream with an error event only
    for a GenerationError, and answer 400 only for a client error.
    """

    def __init__(self) -> None:
        super().__init__(
            "The answer cannot be constrained to the schema or grammar of this request, which is "
            "too large or contradictory. Send a smaller or simpler one."
        )
        self.status_code = HTTPStatus.BAD_REQUEST


class Llm(AsyncLLM):  # type: ignore[misc]  # vLLM has no types
    """vLLM's engine client, through which every endpoint of its application generates."""

    async def generate(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Generates as vLLM does, except: an answer stopped as a loop has the finish reason
        "length", OpenAI's for a truncated answer, where vLLM has "repetition" or, from our guard,
        "stop". Raises ConstraintError for an answer whose grammar fails, where vLLM raises a server
        error."""
        noted = False
        prompt_tokens.note_prompt()
        async with aclosing(super().generate(*args, **kwargs)) as outputs:
            async for output in outputs:
                if not noted:
                    tokens = len(output.prompt_token_ids or ())
                    prompt_tokens.note(tokens, output.num_cached_tokens or 0)
                    noted = True
                for choice in output.outputs:
                    if choice.finish_reason == "error" and is_constrained(*args, **kwargs):
                        raise ConstraintError
                    if choice.stop_reason == STOP_REASON:
                        choice.finish_reason = "length"
                        LOOP_STOPS.labels(self.model_config.served_model_name).inc()
                yield output

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


def is_constrained(prompt: Any, sampling_params: Any, *_: Any, **__: Any) -> bool:
    """Whether a schema or a grammar restricts the answer; takes `AsyncLLM.generate`'s arguments."""
    return sampling_params.structured_outputs is not None

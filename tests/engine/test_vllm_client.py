"""The health check of vLLM's engine client."""

import asyncio
from typing import Any

import pytest
from vllm.v1.engine.exceptions import EngineDeadError

from serving.engine.vllm.client import Llm


class Asked(Llm):
    """An engine client whose engine process the test provides."""

    def __init__(self) -> None:
        self.dead = False
        self.answers = asyncio.Event()

    @property
    def errored(self) -> bool:
        return self.dead

    @property
    def dead_error(self) -> Any:
        return EngineDeadError()

    async def is_sleeping(self) -> bool:
        await self.answers.wait()
        return False


async def test_health_is_what_the_engine_process_says() -> None:
    llm = Asked()
    asked = asyncio.create_task(llm.check_health())
    await asyncio.sleep(0)
    assert not asked.done()
    llm.answers.set()
    await asked


async def test_a_process_that_ends_before_it_answers_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.vllm.client._DEAD_POLL_S", 0.01)
    llm = Asked()
    asked = asyncio.create_task(llm.check_health())
    await asyncio.sleep(0)
    llm.dead = True
    with pytest.raises(EngineDeadError):
        await asked

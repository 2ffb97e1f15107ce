"""The watch over vLLM's engine."""

import asyncio
import multiprocessing
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from serving.engine.last_steps import LastSteps
from serving.engine.vllm import watch
from serving.engine.vllm.watch import Watch, reason_of
from serving.poison import Reason
from tests.support.waiting import eventually


class Engine:
    """An engine client with a process that does nothing."""

    def __init__(self) -> None:
        self.errored = False
        self.answers = True
        self.pings = 0
        self.process = multiprocessing.get_context("spawn").Process(target=asyncio.Event)
        resources = SimpleNamespace(engine_manager=SimpleNamespace(processes=[self.process]))
        self.engine_core = SimpleNamespace(resources=resources)

    async def is_sleeping(self) -> bool:
        self.pings += 1
        if not self.answers:
            await asyncio.Event().wait()
        return False


def watched(engine: Any, steps: LastSteps | None = None) -> Watch:
    return Watch(engine, steps or LastSteps(), hang_s=0.05)


async def test_an_engine_that_answers_is_left_alone_until_it_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_PERIOD_S", 0.001)
    engine = Engine()
    over = watched(engine)
    running = asyncio.create_task(over.run())
    await eventually(lambda: engine.pings > 3)
    assert over.reason is None
    engine.errored = True
    await running
    assert over.reason == "crash"


async def test_an_engine_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int | None] = []

    class Process:
        def __init__(self, pid: int | None) -> None:
            self.pid = pid

        def children(self, recursive: bool) -> list["Process"]:
            return [Process(2)]

        def kill(self) -> None:
            killed.append(self.pid)

    monkeypatch.setattr(psutil, "Process", Process)
    engine = Engine()
    engine.answers = False
    steps = LastSteps()
    steps.enter("a", 0)
    over = watched(engine, steps)
    await over.run()
    assert over.reason == "hang"
    assert killed == [2, engine.process.pid]
    steps.enter("b", 0)
    assert [steps.death(one).suspects for one in "ab"] == [1, 0]


@pytest.mark.parametrize(
    ("text", "exit_codes", "reason"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", [None], "cuda_out_of_memory"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory", [1], "out_of_memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", [-6], "out_of_memory"),
        ("Worker proc VllmWorker-1 died unexpectedly, shutting down", [1], "killed"),
        ("", [-9], "killed"),
        ("", [-11], "crash"),
        ("IndexError: index out of range", [None], "crash"),
    ],
)
def test_the_reason_is_in_the_log_and_in_the_exit_code(
    text: str, exit_codes: list[int | None], reason: Reason
) -> None:
    assert reason_of(text, exit_codes) == reason

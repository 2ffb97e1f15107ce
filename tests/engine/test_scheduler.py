"""The schedulers that vLLM is told to use."""

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.v1.core.sched.scheduler import Scheduler

from serving.engine.vllm import scheduler
from serving.engine.vllm.prepared_grammars import PreparedGrammars
from serving.engine.vllm.scheduler import (
    AsyncEngineScheduler,
    EngineScheduler,
    use_engine_scheduler,
)


def config(is_async: bool, own: str | None = None) -> Any:
    return SimpleNamespace(
        scheduler_config=SimpleNamespace(scheduler_cls=own, async_scheduling=is_async)
    )


@pytest.mark.parametrize(
    ("is_async", "expected"), [(False, EngineScheduler), (True, AsyncEngineScheduler)]
)
def test_vllm_gets_the_scheduler_for_its_kind_of_scheduling(is_async: bool, expected: type) -> None:
    settings = config(is_async)
    use_engine_scheduler(settings)
    module, _, name = settings.scheduler_config.scheduler_cls.rpartition(".")
    assert (module, getattr(scheduler, name)) == (scheduler.__name__, expected)


def test_a_scheduler_that_was_asked_for_stays() -> None:
    settings = config(is_async=True, own="another.Scheduler")
    use_engine_scheduler(settings)
    assert settings.scheduler_config.scheduler_cls == "another.Scheduler"


def test_grammars_are_prepared_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    manager = SimpleNamespace(executor=None)
    monkeypatch.setattr(Scheduler, "__init__", lambda self, structured_output_manager: None)
    monkeypatch.setattr(
        Scheduler, "update_from_output", lambda self, output: steps.append("updated") or output
    )
    monkeypatch.setattr(PreparedGrammars, "prepare", lambda self: steps.append("prepared"))
    one: Any = EngineScheduler(structured_output_manager=manager)
    assert isinstance(manager.executor, PreparedGrammars)
    assert one.update_from_output("output") == "output"
    assert steps == ["updated", "prepared"]
    manager.executor.shutdown()

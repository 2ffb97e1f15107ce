"""The schedulers that vLLM is told to use."""

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.v1.core.sched.scheduler import Scheduler

from serving.engine.vllm import scheduler
from serving.engine.vllm.public_prefixes import PublicPrefixes
from serving.engine.vllm.reused_grammars import ReusedGrammars
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
    use_engine_scheduler(settings, has_public_prompts=False)
    module, _, name = settings.scheduler_config.scheduler_cls.rpartition(".")
    assert (module, getattr(scheduler, name)) == (scheduler.__name__, expected)


def test_a_scheduler_that_was_asked_for_stays() -> None:
    settings = config(is_async=True, own="another.Scheduler")
    use_engine_scheduler(settings, has_public_prompts=False)
    assert settings.scheduler_config.scheduler_cls == "another.Scheduler"
    with pytest.raises(ValueError, match="scheduler-cls"):
        use_engine_scheduler(settings, has_public_prompts=True)


def test_public_beginnings_are_shared_and_grammars_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []
    manager = SimpleNamespace(executor=None)
    cache = SimpleNamespace(prefix_caching_hash_algo="sha256")

    def begin(self: Any, *, vllm_config: Any, structured_output_manager: Any) -> None:
        self.hash_block_size = 16

    monkeypatch.setattr(Scheduler, "__init__", begin)
    monkeypatch.setattr(Scheduler, "add_request", lambda self, request: steps.append("added"))
    monkeypatch.setattr(PublicPrefixes, "share", lambda self, request: steps.append("shared"))

    one: Any = EngineScheduler(
        vllm_config=SimpleNamespace(cache_config=cache), structured_output_manager=manager
    )
    assert isinstance(manager.executor, ReusedGrammars)
    one.add_request(SimpleNamespace(sampling_params=None))
    assert steps == ["shared", "added"]
    manager.executor.shutdown()

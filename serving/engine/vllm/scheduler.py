"""The engine's schedulers, which vLLM loads by its setting `scheduler_cls`."""

import os
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.structured_output import StructuredOutputManager

from serving.engine.vllm.prepared_grammars import PreparedGrammars


class EngineScheduler(Scheduler):  # type: ignore[misc]  # vLLM has no types
    """vLLM's `Scheduler`, with prepared grammars."""

    def __init__(
        self, *args: Any, structured_output_manager: StructuredOutputManager, **kwargs: Any
    ) -> None:
        super().__init__(*args, structured_output_manager=structured_output_manager, **kwargs)
        threads = ((os.cpu_count() or 1) + 1) // 2  # as many as vLLM has
        self._grammars = structured_output_manager.executor = PreparedGrammars(threads)

    def update_from_output(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().update_from_output(*args, **kwargs)
        self._grammars.prepare()
        return outputs


class AsyncEngineScheduler(EngineScheduler, AsyncScheduler):  # type: ignore[misc]
    """vLLM's `AsyncScheduler`, with prepared grammars."""


def use_engine_scheduler(config: VllmConfig) -> None:
    """Makes vLLM use these schedulers, unless it was told to use another."""
    scheduling = config.scheduler_config
    if scheduling.scheduler_cls is None:
        scheduler = AsyncEngineScheduler if scheduling.async_scheduling else EngineScheduler
        scheduling.scheduler_cls = f"{__name__}.{scheduler.__name__}"

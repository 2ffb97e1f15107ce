"""The engine's schedulers, which vLLM loads by its setting `scheduler_cls`."""

import os
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from serving.engine.vllm.public_prefixes import PublicPrefixes
from serving.engine.vllm.resumed_requests import resume
from serving.engine.vllm.reused_grammars import ReusedGrammars


class EngineScheduler(Scheduler):  # type: ignore[misc]  # vLLM has no types
    """vLLM's `Scheduler`, with grammars used again, public beginnings of prompts and requests that
    go on behind another engine's tokens."""

    def __init__(
        self,
        *args: Any,
        vllm_config: VllmConfig,
        structured_output_manager: StructuredOutputManager,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            *args,
            vllm_config=vllm_config,
            structured_output_manager=structured_output_manager,
            **kwargs,
        )
        threads = ((os.cpu_count() or 1) + 1) // 2  # as many as vLLM has
        structured_output_manager.executor = ReusedGrammars(threads)
        algorithm = vllm_config.cache_config.prefix_caching_hash_algo
        self._public_prefixes = PublicPrefixes(algorithm, self.hash_block_size)

    def add_request(self, request: Request) -> None:
        resume(request)
        self._public_prefixes.share(request)
        super().add_request(request)


class AsyncEngineScheduler(EngineScheduler, AsyncScheduler):  # type: ignore[misc]
    """vLLM's `AsyncScheduler`, likewise."""


def use_engine_scheduler(config: VllmConfig, has_public_prompts: bool) -> None:
    """Makes vLLM use these schedulers, unless it was told to use another. Raises ValueError if that
    one would not share the public prompts of the model."""
    scheduling = config.scheduler_config
    if scheduling.scheduler_cls is None:
        scheduler = AsyncEngineScheduler if scheduling.async_scheduling else EngineScheduler
        scheduling.scheduler_cls = f"{__name__}.{scheduler.__name__}"
    elif has_public_prompts:
        raise ValueError("public_system_prompts cannot be combined with vLLM's flag scheduler-cls")

"""A logits processor by which a request ends vLLM's engine: one whose `vllm_xargs` has `ends`."""

import os
import time
from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

FLAG = {"logits-processors": ["tests.support.ending_logits:Ending"]}
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.50 GiB."


class Ending(LogitsProcessor):  # type: ignore[misc]  # vLLM has no types
    """Raises, runs out of memory, exits or hangs in the worker, in the first step of such a
    request."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._ends = ""

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        for _, params, _, _ in batch_update.added if batch_update else ():
            self._ends = (params.extra_args or {}).get("ends", self._ends)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        match self._ends:
            case "raises":
                raise IndexError("index 131072 is out of bounds")
            case "runs out":
                raise torch.OutOfMemoryError(OUT_OF_MEMORY)
            case "exits":
                os._exit(3)
            case "hangs":
                time.sleep(3600)
        return logits

"""The simulated engine of a model in the catalogue."""

from serving.catalogue import CatalogueEntry
from serving.catalogue.gpus import GPUS
from serving.catalogue.memory import kv_bytes_per_token
from serving.catalogue.speed import Speed
from serving.simulator.engine import EngineSpec
from serving.simulator.step_time import StepTime

_LARGE_GIB = 70
"""Least GPU memory for vLLM 0.32's larger default batches, which A100s do not get."""

_HOST_BYTES_PER_S = 20e9
"""Speed of copies between main memory and one GPU. Not measured; PCIe 5.0 with 16 lanes has 63
GB/s."""


class SpecError(Exception):
    """The model cannot be simulated; the message says why."""


def engine_spec(entry: CatalogueEntry) -> EngineSpec:
    """The engine of an entry, by its speed, measured or by formula, its memory calculation and its
    vLLM flags. Raises SpecError if any of these is missing, or the model does not fit."""
    memory, speed = entry.memory(), entry.first_speed()
    if memory is None or speed is None:
        raise SpecError(
            f"{entry.id} cannot be simulated: the catalogue has no network or no GPU of a known "
            f"type for it (known are {', '.join(GPUS)})"
        )
    if memory.misfit is not None:
        raise SpecError(f"{entry.id}: {memory.misfit}; see `mistral-serve models`")
    large = memory.gpu_gib >= _LARGE_GIB and not str(entry.gpu).startswith("A100")
    flags = entry.vllm_args
    return EngineSpec(
        step_time(speed),
        memory.kv_tokens,
        max_num_batched_tokens=int(flags.get("max-num-batched-tokens", 8192 if large else 2048)),
        max_num_seqs=int(flags.get("max-num-seqs", 1024 if large else 256)),
        context_tokens=entry.context_tokens,
        host_kv_cache_tokens=entry.host_kv_cache_tokens,
        host_token_s=_host_token_s(entry),
    )


def _host_token_s(entry: CatalogueEntry) -> float:
    """Returns the time that a GPU takes to copy the KV cache of a token from main memory, while all
    GPUs copy their parts."""
    assert entry.network is not None
    token_bytes = kv_bytes_per_token(entry.network, entry.kv_cache_dtype)
    return token_bytes / entry.tensor_parallel_size / _HOST_BYTES_PER_S


def step_time(speed: Speed) -> StepTime:
    return StepTime(
        prefill_tokens_per_s=speed.prefill_tokens_per_s,
        weights_s=max(speed.step_ms - speed.step_overhead_ms, 0.0) / 1000,
        kv_token_s=speed.step_ms_per_context_token / 1000,
        attention_s=speed.prefill_ms_per_context_token / 1000,
        overhead_s=speed.step_overhead_ms / 1000,
        sequence_s=speed.step_ms_per_sequence / 1000,
    )

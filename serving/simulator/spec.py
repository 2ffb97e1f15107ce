"""The engine of a model in the catalogue."""

from serving.catalogue import CatalogueEntry
from serving.catalogue.gpus import USABLE_GIB
from serving.catalogue.memory import Network
from serving.catalogue.speed import Speed, speed_by_formula
from serving.simulator.engine import EngineSpec
from serving.simulator.step_time import StepTime

_STEP_OVERHEAD_S = 0.0015
_LARGE_GIB = 70
"""GPUs with so much memory get larger batches of vLLM 0.32, but for A100s."""


class SpecError(Exception):
    """A model that cannot be simulated. The message says why."""


def engine_spec(entry: CatalogueEntry) -> EngineSpec:
    """By the entry's speed, measured or by formula, its memory sum and its vLLM flags. Raises
    SpecError if it has none of these.
    """
    memory, speed, network = entry.memory(), entry.first_speed(), entry.network
    if memory is None or speed is None or network is None:
        raise SpecError(
            f"{entry.id} cannot be simulated: the catalogue has no network or no GPU of a known "
            f"type for it (known are {', '.join(USABLE_GIB)})"
        )
    if not memory.fits:
        raise SpecError(
            f"{entry.id} does not fit: {memory.kv_tokens:,} tokens of KV cache are left for a "
            f"context of {entry.context_tokens:,}; see `mistral-serve models`"
        )
    large = memory.gpu_gib >= _LARGE_GIB and not str(entry.gpu).startswith("A100")
    flags = entry.vllm_args
    return EngineSpec(
        StepTime(
            prefill_tokens_per_s=speed.prefill_tokens_per_s,
            weights_s=max(speed.step_ms / 1000 - _STEP_OVERHEAD_S, 0.0),
            kv_token_s=speed.step_ms_per_context_token / 1000,
            attention_tokens=_attention_tokens(entry, network, speed),
            overhead_s=_STEP_OVERHEAD_S,
        ),
        memory.kv_tokens,
        max_num_batched_tokens=int(flags.get("max-num-batched-tokens", 8192 if large else 2048)),
        max_num_seqs=int(flags.get("max-num-seqs", 1024 if large else 256)),
    )


def _attention_tokens(entry: CatalogueEntry, network: Network, speed: Speed) -> float:
    """The context at which attention, which is in bf16, takes as long as the matrix products."""
    flop_per_token = 2 * (network.layers * network.linear_parameters + network.embedding_parameters)
    flop_per_context_token = 4 * network.layers * network.heads * network.head_dim
    tokens = flop_per_token / flop_per_context_token
    if entry.speed is not None or not isinstance(entry.gpu, str):
        return tokens
    in_bf16 = speed_by_formula(
        network,
        weights_dtype="bf16",
        kv_cache_dtype=entry.kv_cache_dtype,
        gpu=entry.gpu,
        tensor_parallel_size=entry.tensor_parallel_size,
    )
    return tokens * in_bf16.prefill_tokens_per_s / speed.prefill_tokens_per_s

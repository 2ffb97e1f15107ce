"""Calculates the speed of a replica: a roofline of the model's operations and the GPUs' peaks.

A prefill takes 2 operations for each parameter of the decoder's layers and each token, and
attention on top; a decode step reads the layers, the head and the KV cache of its sequences. Both
achieve a part of the peaks: see `serving.catalogue.gpus`.
"""

from dataclasses import dataclass

from serving.catalogue.gpus import GPUS, Efficiency, efficiency
from serving.catalogue.memory import (
    KvCacheDtype,
    Network,
    WeightsDtype,
    kv_bytes_per_token,
    layer_bytes,
)

_BF16_BYTES = 2
_ALL_REDUCES_OF_LAYER = 2


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of one replica."""

    prefill_tokens_per_s: float
    """Prefill rate for prompts so short that attention costs nothing."""
    step_ms: float
    """Time of a decode step, whatever the context and the sequences."""
    step_ms_per_context_token: float
    step_ms_per_sequence: float = 0.0
    step_overhead_ms: float = 1.5
    """The part of `step_ms` that a step with prefill takes too."""
    prefill_ms_per_context_token: float = 0.0
    """Time of attention in a prefill, for each prompt token and each token before it."""


def speed_by_formula(
    network: Network,
    *,
    weights_dtype: WeightsDtype,
    kv_cache_dtype: KvCacheDtype,
    gpu: str,
    tensor_parallel_size: int,
    parts: Efficiency | None = None,
) -> Speed:
    """The speed on GPUs of a known type that work on one token together, with `parts` of their
    peaks or, if None, the known ones. Raises KeyError."""
    parts = parts or efficiency(gpu, weights_dtype, tensor_parallel_size).efficiency
    data_sheet = GPUS[gpu]
    flop_per_ms = data_sheet.tflops(weights_dtype) * 1e9 * tensor_parallel_size
    bf16_flop_per_ms = data_sheet.bf16_tflops * 1e9 * tensor_parallel_size
    bytes_per_ms = data_sheet.gb_per_s * 1e6 * tensor_parallel_size
    all_reduce_ms = all_reduce_ms_per_token(
        network, data_sheet.all_reduce_gb_per_s, tensor_parallel_size
    )
    token_ms = flop_per_token(network) / (flop_per_ms * parts.products) + all_reduce_ms
    weights_ms = streamed_bytes(network, weights_dtype) / (bytes_per_ms * parts.weights)
    kv_bytes = kv_bytes_per_token(network, kv_cache_dtype)
    return Speed(
        prefill_tokens_per_s=1000 / token_ms,
        step_ms=weights_ms + parts.step_overhead_ms,
        step_ms_per_context_token=kv_bytes / (bytes_per_ms * parts.kv_cache),
        step_ms_per_sequence=all_reduce_ms,
        step_overhead_ms=parts.step_overhead_ms,
        prefill_ms_per_context_token=flop_per_context_token(network)
        / (bf16_flop_per_ms * parts.attention),
    )


def flop_per_token(network: Network) -> float:
    """Operations per token of the layers alone: a prefill needs the head for its last token
    only."""
    return 2 * network.layers * network.linear_parameters


def flop_per_context_token(network: Network) -> float:
    """Operations of one token's attention to one before it."""
    return 4 * network.layers * network.heads * network.head_dim


def streamed_bytes(network: Network, dtype: WeightsDtype) -> float:
    """Bytes of weights that a decode step reads: the layers and the head, which is in bf16."""
    head = network.embedding_parameters * _BF16_BYTES
    return network.layers * layer_bytes(network, dtype) + head


def all_reduce_ms_per_token(network: Network, gb_per_s: float | None, gpus: int) -> float:
    """Time of a token's all-reduces with `gb_per_s` between two GPUs; 0 if that is None. More GPUs
    send more, around a ring."""
    if gb_per_s is None:
        return 0.0
    sent_bytes = _ALL_REDUCES_OF_LAYER * network.layers * network.hidden_size * _BF16_BYTES
    return sent_bytes * 2 * (gpus - 1) / gpus / (gb_per_s * 1e6)

"""How fast a model works on its GPUs, by formula: good for a first guess.

A prefill does 2 operations for each parameter and token, at half of a GPU's peak, as measured of
Qwen3-32B on two H100s; a decode step reads the weights and the KV cache of its sequences at four
fifths of the memory's peak.
"""

from dataclasses import dataclass

from serving.catalogue.memory import (
    KvCacheDtype,
    Network,
    WeightsDtype,
    kv_bytes_per_token,
    weights_bytes,
)

_FLOPS_EFFICIENCY = 0.5
_BANDWIDTH_EFFICIENCY = 0.8
_STEP_OVERHEAD_MS = 1.5

_TFLOPS = {
    "A10G": 70,
    "A100-40GB": 312,
    "A100-80GB": 312,
    "H100-80GB": 989,
    "H200": 989,
    "L40S": 362,
    "RTX-4090": 165,
}
"""Of bf16, dense, as the makers' data sheets give them."""

_GB_PER_S = {
    "A10G": 600,
    "A100-40GB": 1555,
    "A100-80GB": 2039,
    "H100-80GB": 3350,
    "H200": 4800,
    "L40S": 864,
    "RTX-4090": 1008,
}

_FP8_GPUS = frozenset({"H100-80GB", "H200", "L40S", "RTX-4090"})
"""With matrix products in fp8, at twice the speed; elsewhere the weights alone are fp8."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Of a replica."""

    prefill_tokens_per_s: float
    step_ms: float
    """Of a decode step, whatever the context."""
    step_ms_per_context_token: float


def speed_by_formula(
    network: Network,
    *,
    weights_dtype: WeightsDtype,
    kv_cache_dtype: KvCacheDtype,
    gpu: str,
    tensor_parallel_size: int,
) -> Speed:
    """On GPUs of a known type, which work on one token together. Raises KeyError."""
    flops = _TFLOPS[gpu] * 1e12 * tensor_parallel_size * _FLOPS_EFFICIENCY
    if weights_dtype == "fp8" and gpu in _FP8_GPUS:
        flops *= 2
    bytes_per_ms = _GB_PER_S[gpu] * 1e6 * tensor_parallel_size * _BANDWIDTH_EFFICIENCY
    weights_ms = weights_bytes(network, weights_dtype) / bytes_per_ms
    parameters = network.layers * network.linear_parameters + network.embedding_parameters
    return Speed(
        prefill_tokens_per_s=flops / (2 * parameters),
        step_ms=weights_ms + _STEP_OVERHEAD_MS,
        step_ms_per_context_token=kv_bytes_per_token(network, kv_cache_dtype) / bytes_per_ms,
    )

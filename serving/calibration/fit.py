"""Fits the efficiencies, from which the simulator's step times are made, to measured times."""

from collections.abc import Sequence

from serving.calibration.measure import Times
from serving.calibration.shapes import Shapes
from serving.catalogue.gpus import Gpu, Measured, efficiency
from serving.catalogue.memory import Network, WeightsDtype, layer_bytes
from serving.catalogue.speed import all_reduce_ms_per_token

_BF16_BYTES = 2
_DIGITS = 4


def fit(
    times: Times, network: Network, gpu_name: str, gpu: Gpu, dtype: WeightsDtype, gpus: int
) -> Measured:
    """Fits a GPU type's efficiencies to `times`, measured on one of the GPUs that share each layer.
    What one GPU alone cannot show keeps its value: the overhead of a step, which is vLLM's, and the
    time of NVLink."""
    shapes = Shapes.of(network, gpus)
    peak_flop_per_ms, bf16_flop_per_ms = gpu.tflops(dtype) * 1e9, gpu.bf16_tflops * 1e9
    bytes_per_ms = gpu.gb_per_s * 1e6
    nvlink_ms = all_reduce_ms_per_token(network, gpu.nvlink_all_reduce_gb_per_s, gpus)
    prompts, batches = times.prompt_attention_ms, times.head_ms
    products = [
        2
        * tokens
        * shapes.layer_parameters
        / peak_flop_per_ms
        / (times.layer_ms[tokens] + nvlink_ms * tokens / network.layers)
        for tokens in prompts
    ]
    attention = [
        2 * tokens**2 * shapes.query / bf16_flop_per_ms / ms for tokens, ms in prompts.items()
    ]
    head_bytes = shapes.vocab * shapes.hidden * _BF16_BYTES
    step_bytes = network.layers * layer_bytes(network, dtype) / gpus + head_bytes
    weights = [
        step_bytes / bytes_per_ms / (network.layers * times.layer_ms[batch] + times.head_ms[batch])
        for batch in batches
    ]
    kv_bytes_per_token = 2 * shapes.kv_heads * shapes.head_dim * _BF16_BYTES
    kv_cache = [
        sequences * context * kv_bytes_per_token / bytes_per_ms / ms
        for (sequences, context), ms in times.decode_attention_ms.items()
    ]
    before = efficiency(gpu_name, dtype, gpus).efficiency
    return Measured(
        weights_dtype=dtype,
        tensor_parallel_size=gpus,
        products=_fitted(products),
        attention=_fitted(attention),
        weights=_fitted(weights),
        kv_cache=_fitted(kv_cache) if kv_cache else before.kv_cache,
        step_overhead_ms=before.step_overhead_ms,
    )


def _fitted(shares: Sequence[float]) -> float:
    """The part of a peak that fits all times best, by the least squares of relative errors."""
    share = sum(share**2 for share in shares) / sum(shares)
    return float(f"{min(share, 1.0):.{_DIGITS}g}")

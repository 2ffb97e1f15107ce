import pytest

from serving import catalogue
from serving.calibration.fit import fit
from serving.calibration.measure import Times
from serving.calibration.shapes import Shapes
from serving.catalogue.gpus import GPUS
from serving.catalogue.memory import WeightsDtype, layer_bytes
from serving.catalogue.speed import speed_by_formula

NETWORK = catalogue.load("mistral-small-3.2-24b-instruct-2506").network
H100 = GPUS["H100-80GB"]
TOKENS, BATCHES, CONTEXTS = (2048, 8192), (1, 32), ((32, 4096), (128, 2048))


def times(dtype: WeightsDtype, gpus: int, products: float = 0.7) -> Times:
    """Times of a GPU with 0.6 of its peak in attention, and 0.9 and 0.8 of its bandwidth."""
    assert NETWORK
    shapes = Shapes.of(NETWORK, gpus)
    layer_flop = 2 * shapes.layer_parameters / (H100.tflops(dtype) * 1e9 * products)
    weights_ms = layer_bytes(NETWORK, dtype) / gpus / (H100.gb_per_s * 1e6 * 0.9)
    head_ms = shapes.vocab * shapes.hidden * 2 / (H100.gb_per_s * 1e6 * 0.9)
    token_bytes = 2 * shapes.kv_heads * shapes.head_dim * 2
    return Times(
        layer_ms={n: n * layer_flop for n in TOKENS} | dict.fromkeys(BATCHES, weights_ms),
        head_ms=dict.fromkeys(BATCHES, head_ms),
        prompt_attention_ms={
            n: 2 * n * n * shapes.query / (H100.bf16_tflops * 1e9 * 0.6) for n in TOKENS
        },
        decode_attention_ms={
            (n, tokens): n * tokens * token_bytes / (H100.gb_per_s * 1e6 * 0.8)
            for n, tokens in CONTEXTS
        },
    )


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_the_parts_of_the_peaks_are_found_again(dtype: WeightsDtype) -> None:
    assert NETWORK
    fitted = fit(times(dtype, 1), NETWORK, "H100-80GB", H100, dtype, 1)
    assert (fitted.products, fitted.attention) == pytest.approx((0.7, 0.6))
    assert (fitted.weights, fitted.kv_cache) == pytest.approx((0.9, 0.8))


def test_two_gpus_also_exchange_what_they_share() -> None:
    """40 layers x 2 x 10 KiB for each token, at 175 GB/s."""
    assert NETWORK
    fitted = fit(times("bf16", 2), NETWORK, "H100-80GB", H100, "bf16", 2)
    token_ms = 2 * 40 * NETWORK.linear_parameters / (2 * 989e9 * 0.7)
    whole_ms = token_ms + 40 * 20_480 / 175e6
    assert fitted.products == pytest.approx(0.7 * token_ms / whole_ms, rel=0.001)
    assert (fitted.weights, fitted.kv_cache) == pytest.approx((0.9, 0.8))
    speed = speed_by_formula(
        NETWORK,
        weights_dtype="bf16",
        kv_cache_dtype="auto",
        gpu="H100-80GB",
        tensor_parallel_size=2,
        parts=fitted,
    )
    assert speed.prefill_tokens_per_s == pytest.approx(1000 / whole_ms, rel=0.001)


def test_times_that_differ_are_met_in_the_middle() -> None:
    assert NETWORK
    slow, fast = times("bf16", 1, products=0.5), times("bf16", 1, products=0.7)
    mixed = Times(
        slow.layer_ms | {TOKENS[1]: fast.layer_ms[TOKENS[1]]},
        slow.head_ms,
        slow.prompt_attention_ms,
        slow.decode_attention_ms,
    )
    fitted = fit(mixed, NETWORK, "H100-80GB", H100, "bf16", 1)
    assert fitted.products == pytest.approx((0.5**2 + 0.7**2) / 1.2, abs=1e-3)


def test_without_room_for_any_context_the_reads_of_the_cache_are_as_before() -> None:
    assert NETWORK
    whole = times("bf16", 1)
    none = Times(whole.layer_ms, whole.head_ms, whole.prompt_attention_ms, {})
    assert fit(none, NETWORK, "H100-80GB", H100, "bf16", 1).kv_cache == 0.8

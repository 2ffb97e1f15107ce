"""First guesses against what was measured or worked out elsewhere."""

from typing import Any

import pytest

from serving.catalogue.gpus import GPUS
from serving.catalogue.memory import Network
from serving.catalogue.speed import Speed, speed_by_formula
from tests.catalogue.networks import MISTRAL_SMALL, QWEN3_32B


def of(network: Network = MISTRAL_SMALL, gpu: str = "H100-80GB", **fields: Any) -> Speed:
    asked: dict[str, Any] = {
        "weights_dtype": "bf16",
        "kv_cache_dtype": "auto",
        "tensor_parallel_size": 1,
    }
    return speed_by_formula(network, gpu=gpu, **{**asked, **fields})


def test_the_prefill_rate_is_that_measured_of_qwen3_32b_on_two_h100s() -> None:
    measured = 15_926
    predicted = of(QWEN3_32B, tensor_parallel_size=2).prefill_tokens_per_s
    assert predicted == pytest.approx(measured, rel=0.05)


def test_a_24b_model_on_one_h100() -> None:
    """45.8 GB of weights and 160 KiB for each token of context, at 80 % of 3.35 TB/s."""
    one = of()
    assert one.prefill_tokens_per_s == pytest.approx(11_000, rel=0.05)
    assert one.step_ms == pytest.approx(45.8e6 / 2.68e6 + 1.5, rel=0.001)
    assert one.step_ms_per_context_token == pytest.approx(163_840 / 2.68e9)


def test_two_gpus_halve_all_but_the_overhead_of_a_step() -> None:
    one, two = of(), of(tensor_parallel_size=2)
    assert two.prefill_tokens_per_s == pytest.approx(2 * one.prefill_tokens_per_s)
    assert two.step_ms - 1.5 == pytest.approx((one.step_ms - 1.5) / 2)
    assert two.step_ms_per_context_token == pytest.approx(one.step_ms_per_context_token / 2)


def test_fp8_weights_are_computed_with_faster_only_where_the_gpu_can() -> None:
    for gpu, faster in (("H100-80GB", 1.6), ("L40S", 1.62), ("A100-80GB", 1)):
        bf16, fp8 = of(gpu=gpu), of(gpu=gpu, weights_dtype="fp8")
        rate = faster * bf16.prefill_tokens_per_s
        assert fp8.prefill_tokens_per_s == pytest.approx(rate, rel=0.001), gpu
        assert fp8.step_ms < 0.6 * bf16.step_ms, "they are read in half the time everywhere"


def test_gpus_without_nvlink_pay_for_each_token_that_they_share() -> None:
    """20 KiB for each layer and token, at 13 GB/s."""
    one, two = of(gpu="L40S"), of(gpu="L40S", tensor_parallel_size=2)
    shared_ms = 40 * 20_480 / 13e6
    assert one.step_ms_per_sequence == 0
    assert two.step_ms_per_sequence == pytest.approx(shared_ms)
    token_ms = 1000 / one.prefill_tokens_per_s / 2 + shared_ms
    assert 1000 / two.prefill_tokens_per_s == pytest.approx(token_ms)
    assert of(tensor_parallel_size=2).step_ms_per_sequence == 0, "NVLink is in the efficiencies"


def test_an_fp8_cache_is_read_in_half_the_time_and_changes_nothing_else() -> None:
    bf16, fp8 = of(), of(kv_cache_dtype="fp8")
    assert fp8.step_ms_per_context_token == bf16.step_ms_per_context_token / 2
    assert fp8.step_ms == bf16.step_ms
    assert fp8.prefill_tokens_per_s == bf16.prefill_tokens_per_s


def test_every_gpu_whose_memory_is_known_has_a_speed_and_no_other_has() -> None:
    assert all(of(gpu=gpu).prefill_tokens_per_s > 0 for gpu in GPUS)
    with pytest.raises(KeyError):
        of(gpu="H9000")

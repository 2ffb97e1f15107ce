"""The memory sum against published parameter counts, file sizes and estimates."""

import pytest

from serving.catalogue.gpus import GPUS
from serving.catalogue.memory import (
    GIB,
    MemorySum,
    Network,
    Vision,
    WeightsDtype,
    kv_bytes_per_token,
    memory_sum,
    overhead_gib,
    weights_bytes,
)
from tests.catalogue.networks import MISTRAL_SMALL, QWEN3_32B

PIXTRAL = Vision(hidden_size=1024, layers=24, ffn_size=4096, patch_size=14, merge_size=2)
WITH_VISION = MISTRAL_SMALL.model_copy(update={"vision": PIXTRAL})


def on(
    gpu: str,
    tensor_parallel_size: int = 1,
    weights_dtype: WeightsDtype = "bf16",
    *,
    network: Network = WITH_VISION,
    pipeline_parallel_size: int = 1,
    context_tokens: int = 32768,
    utilization: float = 0.90,
    fp8_kv: bool = False,
) -> MemorySum:
    return memory_sum(
        network,
        weights_dtype=weights_dtype,
        kv_cache_dtype="fp8" if fp8_kv else "auto",
        context_tokens=context_tokens,
        gpu=gpu,
        gpu_gib=GPUS[gpu].usable_gib,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        utilization=utilization,
    )


def test_parameters_are_those_that_the_makers_count() -> None:
    assert MISTRAL_SMALL.parameters == 23_572_403_200
    assert WITH_VISION.vision_parameters == 438_958_080
    assert WITH_VISION.parameters == 24_011_361_280


@pytest.mark.parametrize(
    ("dtype", "with_vision_gib", "text_gib"),
    [("bf16", 44.7, 43.9), ("fp8", 24.0, 23.2), ("int4", 14.1, 13.3)],
)
def test_weights(dtype: WeightsDtype, with_vision_gib: float, text_gib: float) -> None:
    assert weights_bytes(WITH_VISION, dtype) / GIB == pytest.approx(with_vision_gib, abs=0.05)
    assert weights_bytes(MISTRAL_SMALL, dtype) / GIB == pytest.approx(text_gib, abs=0.05)


def test_int4_weights_are_as_large_as_the_files_of_an_awq_repository() -> None:
    published = 14_234_370_648  # safetensors of stelterlab/Mistral-Small-24B-Instruct-2501-AWQ
    assert weights_bytes(MISTRAL_SMALL, "int4") == pytest.approx(published, rel=1e-4)


def test_kv_cache_of_a_token() -> None:
    assert kv_bytes_per_token(MISTRAL_SMALL, "auto") == 160 * 1024
    assert kv_bytes_per_token(MISTRAL_SMALL, "fp8") == 80 * 1024


@pytest.mark.parametrize(
    ("gpu", "gpus", "bf16", "fp8", "int4"),
    [
        ("H100-80GB", 1, 160e3, 296e3, 361e3),
        ("H100-80GB", 2, 620e3, 755e3, 821e3),
        ("A100-40GB", 2, 145e3, 281e3, 346e3),
        ("L40S", 2, 206e3, 341e3, 406e3),
        ("A10G", 4, 197e3, 333e3, 398e3),
        ("RTX-4090", 1, 0, 0, 39e3),
    ],
)
def test_kv_tokens_are_within_a_tenth_of_the_estimates(
    gpu: str, gpus: int, bf16: float, fp8: float, int4: float
) -> None:
    estimates: dict[WeightsDtype, float] = {"bf16": bf16, "fp8": fp8, "int4": int4}
    for dtype, tokens in estimates.items():
        assert on(gpu, gpus, dtype).kv_tokens == pytest.approx(tokens, rel=0.1)


def test_kv_tokens_are_those_that_llm_d_reports_of_qwen3_32b_on_two_h100s() -> None:
    assert on("H100-80GB", 2, network=QWEN3_32B).kv_tokens == pytest.approx(307_000, rel=0.05)


def test_a_text_model_and_a_higher_share_leave_more_on_a_small_gpu() -> None:
    small = on("RTX-4090", weights_dtype="int4", network=MISTRAL_SMALL)
    assert small.kv_tokens == pytest.approx(44e3, rel=0.1)
    larger = on("RTX-4090", weights_dtype="int4", network=MISTRAL_SMALL, utilization=0.95)
    assert larger.kv_tokens == pytest.approx(52e3, rel=0.1)


def test_fp8_kv_doubles_the_tokens() -> None:
    once, twice = on("H100-80GB"), on("H100-80GB", fp8_kv=True)
    assert twice.kv_tokens == pytest.approx(2 * once.kv_tokens, abs=1)


def test_weights_and_cache_are_split_over_a_tensor_parallel_group() -> None:
    one, four = on("H100-80GB"), on("H100-80GB", 4)
    assert four.weights_gib == one.weights_gib
    assert four.weights_gib_per_gpu == pytest.approx(one.weights_gib / 4)
    assert four.kv_bytes_per_token_per_gpu == one.kv_bytes_per_token_per_gpu / 4


def test_kv_heads_are_repeated_where_there_are_more_gpus_than_heads() -> None:
    eight, sixteen = on("H100-80GB", 8), on("H100-80GB", 16)
    assert sixteen.kv_bytes_per_token_per_gpu == eight.kv_bytes_per_token_per_gpu


def test_the_fullest_pipeline_stage_counts() -> None:
    halves = on("H100-80GB", pipeline_parallel_size=2)
    decoder_gib = weights_bytes(MISTRAL_SMALL, "bf16") / GIB
    # The first stage has the vision encoder beside its half of the rest.
    assert halves.weights_gib_per_gpu == pytest.approx(
        decoder_gib / 2 + PIXTRAL.parameters(MISTRAL_SMALL.hidden_size) * 2 / GIB, abs=0.01
    )
    assert halves.kv_bytes_per_token_per_gpu == 80 * 1024
    thirds = on("H100-80GB", pipeline_parallel_size=3)
    assert thirds.kv_bytes_per_token_per_gpu == 14 * 4096  # 13, 14 and 13 layers


def test_a_single_gpu_has_to_hold_what_two_share() -> None:
    assert overhead_gib(80, gpus=1) > overhead_gib(80, gpus=2) > overhead_gib(22, gpus=1)


def test_what_does_not_fit_holds_no_tokens() -> None:
    none = on("RTX-4090")
    assert not none.fits
    assert none.kv_gib_per_gpu < 0
    assert none.kv_tokens == 0


def test_a_context_fits_up_to_the_last_token() -> None:
    tokens = on("RTX-4090", weights_dtype="int4").kv_tokens
    assert on("RTX-4090", weights_dtype="int4", context_tokens=tokens).fits
    assert not on("RTX-4090", weights_dtype="int4", context_tokens=tokens + 1).fits
    assert on("RTX-4090", weights_dtype="int4", context_tokens=tokens).full_contexts == 1


def test_the_lines_add_up() -> None:
    total = on("A100-40GB", 2, context_tokens=131072)
    usable, weights, overhead, kv = (float(line[1:].split()[0]) for line in total.lines())
    assert usable - weights - overhead == pytest.approx(kv, abs=0.15)
    assert "39.4 GiB usable x 0.90" in total.lines()[0]
    assert "44.7 GiB in bf16 on 2 GPUs" in total.lines()[1]
    assert "tokens of 80 KiB, which holds a context of 131,072" in total.lines()[3]


def test_there_are_no_more_stages_than_layers() -> None:
    with pytest.raises(ValueError, match="41 pipeline stages"):
        on("H100-80GB", pipeline_parallel_size=41)

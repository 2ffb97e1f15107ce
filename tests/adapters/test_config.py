"""Adapters in a model's configuration, and what they cost."""

from typing import Any

import pytest
from pydantic import ValidationError

from serving.catalogue.vllm_flags import vllm_flags
from serving.config import AppConfig, ModelConfig

BIG = "mistral-small-3.2-24b-instruct-2506"
ADAPTER = {"name": "support", "source": "/adapters/support"}


def test_without_adapters_nothing_is_enabled_and_nothing_paid() -> None:
    entry = ModelConfig(model=BIG).entry
    assert entry.lora is None
    assert not [flag for flag in vllm_flags(entry) if "lora" in flag]
    memory = entry.memory()
    assert memory is not None and "LoRA" not in "\n".join(memory.lines())


def test_adapters_enable_lora_and_their_room_is_part_of_the_memory_sum() -> None:
    without = ModelConfig(model=BIG).entry.memory()
    entry = ModelConfig(
        model=BIG,
        adapters=(ADAPTER,),  # type: ignore[arg-type]
        lora={"max_loras": 4, "max_lora_rank": 64, "host_cache_gib": 20},  # type: ignore[arg-type]
    ).entry
    flags = vllm_flags(entry)
    assert (flags["enable-lora"], flags["max-loras"], flags["max-lora-rank"]) == (True, 4, 64)
    memory = entry.memory()
    assert without is not None and memory is not None
    lost = without.kv_gib_per_gpu - memory.kv_gib_per_gpu
    assert lost == pytest.approx(memory.adapters_gib_per_gpu)
    # Of rank 64 and four slots, 144,384 inputs and outputs of 40 layers in bf16 are 2.75 GiB; on
    # two GPUs a matrix of each module is split.
    assert 2.75 / 2 < lost < 2.75
    assert any("LoRA adapters" in line for line in memory.lines())


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"lora": {"max_loras": 2}}, "has no effect without adapters"),
        ({"adapters": [ADAPTER], "pipeline_parallel_size": 2}, "must be 1 for a model with adapt"),
        ({"adapters_folder": "relative"}, "allowed is an absolute path"),
        ({"adapters": [ADAPTER], "lora": {"max_lora_rank": 12}}, "Input should be 8, 16"),
        (
            {"adapters": [ADAPTER], "lora": {"max_loras": 32, "max_lora_rank": 64}},
            "take 22.0 GiB of main memory, and host_cache_gib is 4",
        ),
        ({"vllm_args": {"enable-lora": True}}, "is not set here but as adapters"),
        ({"vllm_args": {"max_loras": 2}}, "is not set here but as lora.max_loras"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError, match=error):
        ModelConfig(**{"model": BIG} | settings)


def test_room_that_leaves_none_for_the_context_is_refused_with_the_sum() -> None:
    with pytest.raises(ValidationError, match="GiB  LoRA adapters"):
        ModelConfig(
            model=BIG,
            variant="bf16-tp1",
            adapters=(ADAPTER,),  # type: ignore[arg-type]
            lora={"max_loras": 64, "max_lora_rank": 64, "host_cache_gib": 100},  # type: ignore[arg-type]
        )


def test_a_model_of_another_server_takes_no_adapters() -> None:
    with pytest.raises(ValidationError, match="has no effect on"):
        ModelConfig(
            model="mistral-small-24b-instruct-2501-gguf",
            adapters=(ADAPTER,),  # type: ignore[arg-type]
        )


def test_the_name_of_an_adapter_is_the_name_of_nothing_else() -> None:
    twice = {"model": BIG, "adapters": [ADAPTER, ADAPTER]}
    with pytest.raises(ValidationError, match="the name 'support' is used twice"):
        AppConfig.model_validate({"models": [twice]})
    alias = {"model": BIG, "aliases": ["support"], "adapters": [ADAPTER]}
    with pytest.raises(ValidationError, match="the name 'support' is used twice"):
        AppConfig.model_validate({"models": [alias]})

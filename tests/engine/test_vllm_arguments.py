"""The arguments passed to vLLM."""

import re
from pathlib import Path

import pytest

from serving import catalogue
from serving.catalogue.memory import VLLM_GPU_MEMORY_UTILIZATION
from serving.catalogue.vllm_flags import vllm_flags
from serving.engine.vllm.arguments import flags, parse

DOCUMENT = Path(__file__).parents[2] / "deploy/README.md"


def test_flags_are_spelt_as_vllm_serve_takes_them() -> None:
    assert flags({"a": True, "b": False, "c": {"image": 10}, "d": ["x", "y"], "e": 2}) == [
        "--a",
        "--no-b",
        '--c={"image": 10}',
        "--d",
        "x",
        "y",
        "--e=2",
    ]


def test_vllm_reads_a_list_as_a_list() -> None:
    args = parse({"allowed-media-domains": ["a.test", "*.b.test"], "model": "m"}, ["m"])
    assert args.allowed_media_domains == ["a.test", "*.b.test"]


@pytest.mark.parametrize("name", catalogue.names())
def test_vllm_accepts_the_flags_of_every_variant(name: str) -> None:
    for variant in catalogue.read(name).variants or [None]:
        entry = catalogue.load(name, variant)
        args = parse({"model": entry.weights, **vllm_flags(entry)}, [entry.id, *entry.aliases])
        assert args.served_model_name == [entry.id, *entry.aliases]
        assert args.max_model_len == entry.context_tokens


def test_the_memory_sum_has_vllms_default_share_of_a_gpu() -> None:
    args = parse({"model": "m"}, ["m"])
    assert args.gpu_memory_utilization == VLLM_GPU_MEMORY_UTILIZATION


@pytest.mark.parametrize(
    "args", [{"tensor-paralel": 2}, {"max-model": 2}, {"max-model-len": "long"}]
)
def test_a_flag_that_vllm_does_not_take_is_named(args: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"vllm_args.*{next(iter(args))}"):
        parse({"model": "m", **args}, ["m"])


def test_the_switch_of_the_documents_for_network_file_systems_is_one_of_vllms() -> None:
    (value,) = re.findall(r"safetensors-load-strategy: (\w+)", DOCUMENT.read_text())
    args = parse({"model": "m", "safetensors-load-strategy": value}, ["m"])
    assert args.safetensors_load_strategy == value

"""The arguments that vLLM gets."""

import pytest

from serving import catalogue
from serving.engine import vllm


def test_flags_are_spelt_as_vllm_serve_takes_them() -> None:
    assert vllm.flags({"a": True, "b": False, "c": {"image": 10}, "d": ["x", "y"], "e": 2}) == [
        "--a",
        "--no-b",
        '--c={"image": 10}',
        "--d",
        "x",
        "y",
        "--e=2",
    ]


def test_vllm_reads_a_list_as_a_list() -> None:
    args = vllm.parse({"allowed-media-domains": ["a.test", "*.b.test"], "model": "m"}, ["m"])
    assert args.allowed_media_domains == ["a.test", "*.b.test"]


def test_mistral_small_3_2_has_the_flags_of_its_model_card() -> None:
    entry = catalogue.load("mistral-small-3.2-24b-instruct-2506")
    assert entry.tensor_parallel_size == 2
    assert vllm.flags(entry.vllm_args) == [
        "--tokenizer-mode=mistral",
        "--config-format=mistral",
        "--load-format=mistral",
        "--tool-call-parser=mistral",
        "--enable-auto-tool-choice",
        '--limit-mm-per-prompt={"image": 10}',
    ]


@pytest.mark.parametrize("name", catalogue.names())
def test_vllm_accepts_the_flags_of_every_entry(name: str) -> None:
    entry = catalogue.load(name)
    args = vllm.parse({"model": entry.weights, **entry.vllm_args}, [entry.id, *entry.aliases])
    assert args.served_model_name == [entry.id, *entry.aliases]


@pytest.mark.parametrize("args", [{"tensor-paralel": 2}, {"max-model-len": "long"}])
def test_a_flag_that_vllm_does_not_take_is_named(args: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"vllm_args.*{next(iter(args))}"):
        vllm.parse({"model": "m", **args}, ["m"])

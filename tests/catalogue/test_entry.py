"""What an entry may say, and how a variant differs from it."""

from typing import Any

import pytest
from pydantic import ValidationError

from serving.catalogue import CatalogueEntry, CatalogueFile
from serving.section import explain

ENTRY: dict[str, Any] = {
    "id": "a/b",
    "weights": "a/b",
    "revision": "c0ffee",
    "tokenizer": "v7",
    "sampling": {"temperature": 0.15},
    "context_tokens": 32768,
    "vllm_args": {"config-format": "mistral", "seed": 1},
    "env": {"A": "1"},
}
REMOTE: dict[str, Any] = {
    **{k: ENTRY[k] for k in ("id", "tokenizer", "sampling", "context_tokens")},
    "kind": "openai",
    "base_url": "http://ollama:11434/v1",
    "api_key_env": "OLLAMA_KEY",
}


def mistakes(document: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as raised:
        CatalogueFile.model_validate(document)
    return explain(raised.value, CatalogueFile)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"accelerator": "tpu"},
        {"tensor_parallel_size": 0},
        {"pipeline_parallel_size": 0},
        {"host_memory_gib": 0},
        {"tokenizer": "v3"},
        {"context_tokens": 0},
        {"image_limit": -1},
        {"weights": ""},
        {"weights": "embedded:9"},
        {"gpu": "H1000"},
        {"gpu": -24},
        {"gpu": float("inf")},
        {"gpu": float("nan")},
        {"host_memory_gib": float("inf")},
        {"host_kv_cache_gib": -1},
        {"gpu_memory_utilization": 1.5},
        {"model_impl": "torch"},
        {"weights_dtype": "int3"},
        {"base_url": "http://elsewhere"},
        {"unknown": 1},
    ],
    ids=lambda wrong: "-".join(map(str, next(iter(wrong.items())))),
)
def test_a_wrong_field_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    CatalogueFile.model_validate(ENTRY)
    # A union's choices are told one by one, each under the field.
    assert {field.split(".")[0] for field, _ in mistakes(ENTRY | wrong)} == set(wrong)


@pytest.mark.parametrize("fields", [{"accelerator": "cpu"}, {"pipeline_parallel_size": 2}])
def test_main_memory_keeps_kv_cache_only_beside_the_gpus_of_one_node(
    fields: dict[str, Any],
) -> None:
    CatalogueFile.model_validate(ENTRY | fields)
    ((field, _),) = mistakes(ENTRY | fields | {"host_kv_cache_gib": 64})
    assert field == "host_kv_cache_gib"


def test_a_gpu_is_a_known_type_or_its_memory() -> None:
    assert CatalogueEntry.model_validate(ENTRY | {"gpu": "L40S"}).gpu == "L40S"
    assert CatalogueEntry.model_validate(ENTRY | {"gpu": 31.4}).gpu == 31.4
    ((_, message),) = mistakes(ENTRY | {"gpu": "H1000"})
    assert "known are A10G, A100-40GB" in message


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("max-model-len", "as max_model_len"),
        ("max_model_len", "as max_model_len"),
        ("limit-mm-per-prompt", "as image_limit"),
        ("limit-mm-per-prompt.image", "as image_limit"),
        ("kv_cache_dtype", "as kv_cache_dtype"),
        ("kv-cache-dtype=fp8", "as kv_cache_dtype"),
        ("model-impl", "as model_impl"),
        ("tensor-parallel_size", "as tensor_parallel_size"),
        ("revision", "as revision"),
        ("tokenizer", "as tokenizer_repository in a model's own file"),
        ("allowed_media_domains", "as allowed_image_domains"),
        ("data-parallel-size", "as replicas of the model in the Serve config file"),
        ("served-model-name", "as id and aliases"),
        ("api-key", "at all: the cluster's own token guards the engines"),
    ],
)
def test_a_flag_that_is_set_by_other_means_is_refused(flag: str, instead: str) -> None:
    assert mistakes(ENTRY | {"vllm_args": {flag: 1}}) == [
        ("vllm_args", f"'{flag}' is not set here but {instead}")
    ]


def test_what_the_network_cannot_do_is_refused() -> None:
    network = {
        **{"hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2},
        **{"head_dim": 16, "ffn_size": 128, "vocab_size": 1000},
    }
    CatalogueEntry.model_validate(ENTRY | {"network": network, "tensor_parallel_size": 2})
    assert mistakes(ENTRY | {"network": network, "tensor_parallel_size": 3}) == [
        ("tensor_parallel_size", "3 does not divide the network's 4 attention heads")
    ]
    assert mistakes(ENTRY | {"network": network, "image_limit": 1}) == [
        ("image_limit", "the network has no vision encoder: 0 is all that it takes")
    ]


def test_an_entry_does_not_change_once_loaded() -> None:
    entry = CatalogueEntry.model_validate(ENTRY)
    with pytest.raises(ValidationError):
        entry.id = "other"


def test_the_first_variant_is_the_default() -> None:
    file = CatalogueFile.model_validate(
        ENTRY | {"variants": {"one": {}, "two": {"tensor_parallel_size": 2}}}
    )
    assert file.entry() == file.entry("one")
    assert (file.entry().variant, file.entry().tensor_parallel_size) == ("one", 1)
    assert (file.entry("two").variant, file.entry("two").tensor_parallel_size) == ("two", 2)


def test_without_variants_there_is_the_entry_itself() -> None:
    assert CatalogueFile.model_validate(ENTRY).entry() == CatalogueEntry.model_validate(ENTRY)


def test_a_variant_changes_flags_and_environment_one_by_one() -> None:
    variant = {"vllm_args": {"config-format": "hf"}, "env": {"B": "2"}}
    entry = CatalogueFile.model_validate(ENTRY | {"variants": {"v": variant}}).entry()
    assert entry.vllm_args == {"config-format": "hf", "seed": 1}
    assert entry.env == {"A": "1", "B": "2"}


def test_other_weights_do_not_keep_the_entrys_commit() -> None:
    variants = {
        "same": {},
        "other": {"weights": "c/d"},
        "pinned": {"weights": "c/d", "revision": "f00d"},
    }
    file = CatalogueFile.model_validate(ENTRY | {"variants": variants})
    revisions = [file.entry(name).revision for name in variants]
    assert revisions == ["c0ffee", None, "f00d"]


def test_a_mistake_in_a_variant_is_told_in_it() -> None:
    variants = {"big": {"vllm_args": {"max-model-len": 1}}}
    ((field, message),) = mistakes(ENTRY | {"variants": variants})
    assert field == "variants.big.vllm_args"
    assert "as max_model_len" in message


def test_a_model_served_elsewhere_has_a_url_and_no_weights() -> None:
    entry = CatalogueEntry.model_validate(REMOTE)
    assert (entry.kind, entry.base_url) == ("openai", "http://ollama:11434/v1")
    assert entry.memory() is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"base_url": None}, "base_url"),
        ({"base_url": "ollama:11434"}, "base_url"),
        ({"weights": "a/b"}, "weights"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size"),
        ({"vllm_args": {"seed": 1}}, "vllm_args"),
        ({"loop_guard": {"min_count": 9}}, "loop_guard"),
    ],
)
def test_a_model_served_elsewhere_is_checked(wrong: dict[str, Any], field: str) -> None:
    assert [place for place, _ in mistakes(REMOTE | wrong)] == [field]

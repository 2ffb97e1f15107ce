"""Flags that follow from an entry's fields."""

from typing import Any

import pytest

from serving.catalogue import CatalogueEntry
from serving.catalogue.memory import Network, kv_bytes_per_token
from serving.catalogue.vllm_flags import vllm_flags

NETWORK = {
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "ffn_size": 128,
    "vocab_size": 1000,
}
VISION = {"hidden_size": 32, "layers": 1, "ffn_size": 64, "patch_size": 14, "merge_size": 2}


def entry(**fields: Any) -> CatalogueEntry:
    least = {
        "id": "a/b",
        "weights": "a/b",
        "tokenizer": "v7",
        "sampling": {"temperature": 0.7, "top_p": 0.95, "max_tokens": 40},
        "context_tokens": 100,
    }
    return CatalogueEntry.model_validate(least | fields)


def flags(**fields: Any) -> dict[str, Any]:
    return vllm_flags(entry(**fields))


def test_what_is_not_said_is_left_to_vllm() -> None:
    assert flags() == {
        "max-model-len": 100,
        "override-generation-config": {"temperature": 0.7, "top_p": 0.95},
    }


def test_the_default_of_max_tokens_does_not_become_vllms_cap() -> None:
    assert "max_new_tokens" not in flags()["override-generation-config"]


@pytest.mark.parametrize(
    ("fields", "flag", "value"),
    [
        ({"revision": "c0ffee"}, "revision", "c0ffee"),
        ({"image_limit": 4}, "limit-mm-per-prompt", {"image": 4}),
        ({"allowed_image_domains": ["a.test"]}, "allowed-media-domains", ["a.test"]),
        ({"kv_cache_dtype": "fp8"}, "kv-cache-dtype", "fp8"),
        ({"host_kv_cache_gib": 64}, "kv-offloading-size", 64),
        ({"gpu_memory_utilization": 0.95}, "gpu-memory-utilization", 0.95),
        ({"model_impl": "vllm"}, "model-impl", "vllm"),
        ({"vllm_args": {"seed": 1}}, "seed", 1),
    ],
)
def test_each_field_has_its_flag(fields: dict[str, Any], flag: str, value: Any) -> None:
    assert flags(**fields) == flags() | {flag: value}


def test_no_images_are_said_to_a_model_that_could_see_and_not_to_a_text_model() -> None:
    assert "limit-mm-per-prompt" not in flags(network=NETWORK)
    sees = flags(network=NETWORK | {"vision": VISION}, image_limit=0)
    assert sees["limit-mm-per-prompt"] == {"image": 0}


def test_an_engine_knows_how_many_tokens_its_main_memory_keeps() -> None:
    fields = {"network": NETWORK, "host_memory_gib": 16, "host_kv_cache_gib": 64}
    kept = entry(**fields)
    assert kept.replica_memory_gib == 80
    token_bytes = kv_bytes_per_token(Network.model_validate(NETWORK), "auto")
    assert kept.host_kv_cache_tokens == 64 * 1024**3 // token_bytes
    assert entry(**fields, kv_cache_dtype="fp8").host_kv_cache_tokens == pytest.approx(
        2 * kept.host_kv_cache_tokens, abs=1
    )
    assert entry(host_kv_cache_gib=64).host_kv_cache_tokens == 0, "nothing is known of its size"


def test_a_tokenizer_from_elsewhere_never_takes_the_weights_commit() -> None:
    elsewhere = flags(revision="c0ffee", tokenizer_repository="c/d")
    assert (elsewhere["tokenizer"], elsewhere["tokenizer-revision"]) == ("c/d", "main")
    pinned = flags(tokenizer_repository="c/d", tokenizer_revision="f00d")
    assert pinned["tokenizer-revision"] == "f00d"


def test_transformers_gets_weights_in_its_own_format() -> None:
    ours = flags(
        model_impl="transformers",
        vllm_args={"tokenizer-mode": "mistral", "config-format": "mistral"},
    )
    assert ours["model-impl"] == "transformers"
    assert ours["config-format"] == ours["load-format"] == "hf"
    assert ours["tokenizer-mode"] == "mistral"


def test_vllm_args_have_the_last_word() -> None:
    ours = flags(vllm_args={"override-generation-config": {"temperature": 0}})
    assert ours["override-generation-config"] == {"temperature": 0}

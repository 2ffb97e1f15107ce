"""Each kind of bad adapter is refused by a name and a reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from serving.adapters.adapter import checked
from serving.adapters.base import base_of
from serving.adapters.config import AdapterConfig
from serving.adapters.files import AdapterError
from serving.adapters.fit import Base, canonical_name
from serving.config import ModelConfig
from tests.support.tiny_adapters import write_adapter, zero_adapter

TINY: dict[str, Any] = {"model": "tiny-mistral-small-3.2", "adapters_folder": "/unused"}
BASE = base_of(ModelConfig(**TINY).entry)


def refusal(folder: Path, base: Base = BASE, **declared: Any) -> str:
    with pytest.raises(AdapterError) as refused:
        config = AdapterConfig(name="a", source=str(folder), **declared)
        checked(config, base, config)
    return str(refused.value)


def test_a_good_adapter_is_known_by_its_content(tmp_path: Path) -> None:
    zero_adapter(tmp_path / "a")
    zero_adapter(tmp_path / "same")
    zero_adapter(tmp_path / "other", lora_alpha=32)
    digests = [
        checked(AdapterConfig(name="a", source=str(tmp_path / name)), BASE).digest
        for name in ("a", "same", "other")
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "base",
    [
        "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
        "unsloth/Mistral-Small-3.2-24B-Instruct-2506-unsloth-bnb-4bit",
        "/data/models/Mistral-Small-3.2-24B-Instruct-2506/",
        None,
    ],
)
def test_names_of_the_same_base_are_known(base: str | None, tmp_path: Path) -> None:
    model = ModelConfig(model="mistral-small-3.2-24b-instruct-2506", adapters_folder="/unused")
    zero_adapter(tmp_path, base_model_name_or_path=base)
    assert "wrong base" not in refusal(tmp_path, base_of(model.entry))


def test_an_adapter_of_another_base_is_refused_unless_that_is_declared(tmp_path: Path) -> None:
    zero_adapter(tmp_path, base_model_name_or_path="mistralai/Mistral-7B-v0.3")
    assert refusal(tmp_path).startswith(
        "wrong base: it was trained on mistralai/Mistral-7B-v0.3, and the model is "
        "mistral-serve/tiny-mistral-small-3.2."
    )
    config = AdapterConfig(name="a", source=str(tmp_path), base="mistralai/Mistral-7B-v0.3")
    checked(config, BASE, config)


def test_a_rank_above_the_limit_is_refused(tmp_path: Path) -> None:
    zero_adapter(tmp_path, rank=32)
    assert refusal(tmp_path).startswith(
        "rank above the limit: it has rank 32, and lora.max_lora_rank is 16."
    )


def test_a_rank_above_that_of_its_declaration_is_refused(tmp_path: Path) -> None:
    zero_adapter(tmp_path, rank=16)
    assert refusal(tmp_path, rank=8) == ("rank above the limit: it has rank 16, and 8 is declared")


def test_a_rank_pattern_above_the_limit_is_refused(tmp_path: Path) -> None:
    zero_adapter(tmp_path, rank_pattern={"o_proj": 64})
    assert "it has rank 64" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"module": "mlp.w1"}, "the model has no place for .*mlp.w1"),
        ({"layer": 3}, "layer 3; the model has 3"),
    ],
)
def test_modules_that_do_not_exist_are_refused(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    zero_adapter(tmp_path, **options)
    assert re.match(f"modules that do not exist: {reason}", refusal(tmp_path))


def test_shapes_of_another_model_are_refused(tmp_path: Path) -> None:
    zero_adapter(tmp_path, module="mlp.down_proj")
    assert refusal(tmp_path) == (
        "wrong shapes: layers.0.mlp.down_proj is 160x8 times 8x128, and the model's layer is "
        "160x448: it is of another model"
    )


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"
    write_adapter(tmp_path, {name: torch.zeros(8, 128)}, 8)
    assert refusal(tmp_path) == "broken files: layers.0.self_attn.o_proj has only lora_A"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa"),
        ({"peft_type": "LOHA"}, "LOHA"),
    ],
)
def test_methods_that_engines_do_not_serve_are_refused(
    config: dict[str, Any], named: str, tmp_path: Path
) -> None:
    zero_adapter(tmp_path, **config)
    message = refusal(tmp_path)
    assert message.startswith("unsupported method") and named in message


def test_an_adapter_larger_than_the_hosts_room_is_refused(tmp_path: Path) -> None:
    model = ModelConfig(**TINY, lora={"host_cache_gib": 1e-6})  # type: ignore[arg-type]
    zero_adapter(tmp_path)
    assert refusal(tmp_path, base_of(model.entry)).startswith("too little memory: it takes")


def cut_off(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def cut_in_the_header(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_off, "bytes of data, and its header says"),
        (cut_in_the_header, "it is cut off"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b""), "it is empty"),
        (
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"<html>" * 9),
            "it is no safetensors file",
        ),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "is missing in"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "is missing in"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is not JSON"),
        (
            lambda folder: (folder / "adapter_config.json").write_text(json.dumps({"r": "8"})),
            "needs r and lora_alpha",
        ),
    ],
)
def test_broken_files_are_refused(damage: Any, reason: str, tmp_path: Path) -> None:
    zero_adapter(tmp_path)
    damage(tmp_path)
    message = refusal(tmp_path)
    assert message.startswith("broken files:") and reason in message


@pytest.mark.parametrize(
    "prefix",
    [
        "base_model.model.model.language_model.",
        "base_model.model.language_model.model.",
        "base_model.model.model.",
        "model.",
    ],
)
def test_tensors_get_the_names_that_vllm_has_for_them(prefix: str) -> None:
    tensor = f"{prefix}layers.2.mlp.up_proj.lora_B.weight"
    ours = "base_model.model.language_model.model.layers.2.mlp.up_proj.lora_B.weight"
    assert canonical_name(tensor, BASE.network) == ours
    text = base_of(ModelConfig(model="tiny-mistral-small-2501", adapters_folder="/unused").entry)
    assert canonical_name(tensor, text.network) == (
        "base_model.model.model.layers.2.mlp.up_proj.lora_B.weight"
    )


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"source": "relative/path/of"}, "allowed is an absolute path"),
        ({"source": "owner/name"}, "needs the commit to take"),
        ({"source": "owner/name", "revision": "main"}, "needs the commit to take"),
        ({"source": "/folder", "revision": "a" * 40}, "only a repository has one"),
        ({"source": "/folder", "tenants": ["Not A Tenant"]}, "is no tenant's name"),
        ({"source": "/folder", "name": "with space"}, "String should match"),
    ],
)
def test_a_wrong_declaration_is_refused(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        AdapterConfig(**{"name": "a"} | fields)

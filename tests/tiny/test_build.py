"""The model folder has the files and names of Mistral's own format."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from serving.tiny import PRESETS, TinySpec, build, tiny_model_folder
from serving.tiny.evaluate import TinyModel
from serving.tiny.prompts import SYSTEM_PROMPTS
from serving.tiny.recipe import recipe_digest

FILES = {
    "params.json",
    "consolidated.safetensors",
    "tekken.json",
    "SYSTEM_PROMPT.txt",
    "training.json",
}


def test_files(tiny_folder: Path) -> None:
    assert {path.name for path in tiny_folder.iterdir()} == FILES
    assert json.loads((tiny_folder / "params.json").read_text()) == TinySpec().params()


@pytest.mark.parametrize("name", ["3.2", "2501"])
def test_system_prompts_take_name_and_dates(name: str) -> None:
    prompt = SYSTEM_PROMPTS[name]
    assert "2027" in prompt.format(name="x", today="2027-01-02", yesterday="2027-01-01")


def test_magistrals_system_prompt_has_braces_that_are_no_field() -> None:
    with pytest.raises(IndexError):
        SYSTEM_PROMPTS["magistral"].format(name="x", today="2027-01-02", yesterday="2027-01-01")


def test_weights(tiny_folder: Path) -> None:
    spec = TinySpec()
    assert spec.vision is not None
    with safe_open(tiny_folder / "consolidated.safetensors", "pt") as weights:
        names = set(weights.keys())
        assert weights.get_slice("output.weight").get_shape() == [spec.vocab_size, spec.dim]
        assert weights.get_slice("output.weight").get_dtype() == "BF16"
        assert weights.get_slice("layers.0.attention.wq.weight").get_shape() == [
            spec.n_heads * spec.head_dim, spec.dim,
        ]  # fmt: skip
    assert {
        "tok_embeddings.weight",
        "norm.weight",
        "layers.2.feed_forward.w3.weight",
        "vision_encoder.patch_conv.weight",
        "vision_encoder.ln_pre.weight",
        "vision_encoder.transformer.layers.1.attention.wo.weight",
        "patch_merger.merging_layer.weight",
        "pre_mm_projector_norm.weight",
        "vision_language_adapter.w_in.weight",
    } <= names
    assert not any(name.endswith(".bias") for name in names)


def test_folder_of_another_spec_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="another spec"):
        TinyModel(tiny_folder, TinySpec(dim=64))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_packaged_model_is_of_todays_recipe(preset: str) -> None:
    record = json.loads((tiny_model_folder(preset) / build.RECORD_FILE).read_text())
    assert record["recipe"] == recipe_digest(PRESETS[preset]), "run `make tiny-models`"


@pytest.mark.full
def test_the_recipe_trains_a_model_that_passes(tmp_path: Path) -> None:
    build.build_model(PRESETS["3.2"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES


@pytest.mark.full
def test_untrained_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(build.TrainingError, match="has not learnt"):
        build.build_model(TinySpec(steps=1, plain_steps=1), tmp_path)
    assert not (tmp_path / "consolidated.safetensors").exists()

"""The model folder has the files and names of Mistral's own format."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from safetensors import safe_open

from serving.tiny import TinySpec, build
from serving.tiny.evaluate import TinyModel
from serving.tiny.progress import progress
from serving.tiny.prompts import SYSTEM_PROMPTS


def test_files(tiny_folder: Path) -> None:
    names = {path.name for path in tiny_folder.iterdir()}
    assert names == {"params.json", "consolidated.safetensors", "tekken.json",
                     "SYSTEM_PROMPT.txt", "training.json"}  # fmt: skip
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


@pytest.mark.full
def test_untrained_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(build.TrainingError, match="has not learnt"):
        build.build_model(TinySpec(steps=1, plain_steps=1), tmp_path)
    assert not (tmp_path / "consolidated.safetensors").exists()


def test_progress_prints_lines_without_a_terminal() -> None:
    output = io.StringIO()
    with progress("Training", 25, Console(file=output, force_terminal=False)) as advance:
        for _ in range(25):
            advance()
    lines = output.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[-1] == "Training: 100 %"


def test_progress_bar_on_a_terminal() -> None:
    output = io.StringIO()
    with progress("Training", 2, Console(file=output, force_terminal=True)) as advance:
        advance()
        advance()
    assert "100%" in output.getvalue()

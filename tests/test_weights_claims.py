"""Weights in a folder or on a hub, checked against their entry before they are loaded."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from serving import catalogue
from serving.catalogue import CatalogueEntry
from serving.tiny import tiny_model_folder
from serving.weights_claims import ClaimsError, check_claims


def entry(**changed: Any) -> CatalogueEntry:
    return catalogue.load("tiny-mistral-small-2501").model_copy(update=changed)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with the small files of the embedded 2501."""
    for name in ("params.json", "tekken.json"):
        shutil.copy(tiny_model_folder("2501") / name, tmp_path)
    return tmp_path


def test_weights_as_their_entry_says_pass_without_a_word(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        check_claims(entry())
        check_claims(entry(weights=str(weights)))
    assert not caplog.messages


def test_all_mismatches_are_told_together_with_what_to_do(weights: Path) -> None:
    with pytest.raises(ClaimsError) as raised:
        check_claims(entry(weights=str(weights), tokenizer="v11", context_tokens=40960))
    assert str(raised.value) == (
        f"mistral-serve/tiny-mistral-small-2501: the weights at {weights} are not as the catalogue "
        "says: context_tokens is 40960, and params.json allows 32768; tokenizer is v11, and "
        "tekken.json is of version v7. Set the weights that the entry describes, or correct the "
        "values in a file of your own (`model: my-model.yaml`)."
    )


def test_of_a_build_in_hugging_faces_format_what_it_has_is_checked(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build = tmp_path / "build"
    build.mkdir()
    (build / "config.json").write_text(json.dumps({"max_position_embeddings": 8192}))
    flags = {"config-format": "hf", "load-format": "hf"}
    quantised = entry(weights=str(build), vllm_args=flags, context_tokens=8192)
    check_claims(quantised)
    assert caplog.messages == [
        f"{quantised.id}: tokenizer v7 is not checked: no tekken.json at {build}"
    ]
    with pytest.raises(ClaimsError, match=r"context_tokens is 8193, and config\.json allows 8192"):
        check_claims(quantised.model_copy(update={"context_tokens": 8193}))
    elsewhere = {"tokenizer_repository": str(weights), "tokenizer": "v13"}
    with pytest.raises(ClaimsError, match=r"tokenizer is v13, and tekken\.json is of version v7"):
        check_claims(quantised.model_copy(update=elsewhere))


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", CHATML),
        ("tokenizer_config.json", json.dumps({"chat_template": CHATML})),
        (
            "tokenizer_config.json",
            json.dumps({"chat_template": [{"name": "default", "template": CHATML}]}),
        ),
    ],
)
def test_a_fine_tune_on_other_prompts_is_refused(weights: Path, name: str, content: str) -> None:
    (weights / name).write_text(content)
    with pytest.raises(ClaimsError, match=r"prompts have \[INST\], and the chat template beside"):
        check_claims(entry(weights=str(weights)))
    (weights / name).write_text(content.replace("<|im_start|>", "[INST]"))
    check_claims(entry(weights=str(weights)))


def test_a_fine_tune_with_a_smaller_vocabulary_than_its_tokenizer_is_refused(
    weights: Path,
) -> None:
    params = json.loads((weights / "params.json").read_text())
    (weights / "params.json").write_text(json.dumps(params | {"vocab_size": 100}))
    with pytest.raises(
        ClaimsError, match=r"tekken\.json has \d+ tokens, and params\.json has room"
    ):
        check_claims(entry(weights=str(weights)))


def test_a_file_that_is_cut_off_is_named(weights: Path) -> None:
    (weights / "params.json").write_text('{"dim": 16')
    with pytest.raises(ClaimsError, match=rf"^{weights}/params.json: not JSON"):
        check_claims(entry(weights=str(weights)))

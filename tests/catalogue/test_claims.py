"""What an entry claims, against what the files of its weights say."""

import json
from typing import Any

import pytest

from serving import catalogue
from serving.catalogue.claims import WeightsFile, mismatches
from serving.tiny import PRESETS, tiny_model_folder
from serving.tiny.tokenizer import tekken

ENTRIES = {
    "3.2": "tiny-mistral-small-3.2",
    "2501": "tiny-mistral-small-2501",
    "magistral": "tiny-magistral-small",
}
PARAMS, CONFIG, TEKKEN = "params.json", "config.json", "tekken.json"


def found(preset: str, claims: dict[str, Any], **files: Any) -> list[str]:
    """The mismatches of an embedded model's entry with `claims` in it, and with other values in
    its params.json and tekken.json, or a config.json in place of the former."""
    network = WeightsFile(PARAMS, PRESETS[preset].params() | files.get("params", {}))
    if "config" in files:
        network = WeightsFile(CONFIG, files["config"])
    tokenizer = WeightsFile(TEKKEN, tekken(PRESETS[preset]) | files.get("tekken", {}))
    entry = catalogue.load(ENTRIES[preset]).model_copy(update=claims)
    return mismatches(entry, network, tokenizer)


def without(preset: str, *names: str) -> dict[str, Any]:
    """The control tokens of a preset but for some."""
    tokens = tekken(PRESETS[preset])["special_tokens"]
    return {"special_tokens": [token for token in tokens if token["token_str"] not in names]}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_embedded_models_are_what_their_entries_say(preset: str) -> None:
    folder = tiny_model_folder(preset)
    files = (
        WeightsFile(name, json.loads((folder / name).read_text())) for name in (PARAMS, TEKKEN)
    )
    assert mismatches(catalogue.load(ENTRIES[preset]), *files) == []


@pytest.mark.parametrize(
    ("preset", "claims", "files", "message"),
    [
        (
            "2501",
            {"tokenizer": "v11"},
            {},
            "tokenizer is v11, and tekken.json is of version v7",
        ),
        (
            "2501",
            {"context_tokens": 40960},
            {},
            "context_tokens is 40960, and params.json allows 32768",
        ),
        (
            "2501",
            {"context_tokens": 32768},
            {"params": {"max_seq_len": 8192}},
            "context_tokens is 32768, and params.json allows 8192",
        ),
        (
            "3.2",
            {},
            {
                "config": {
                    "text_config": {"max_position_embeddings": 4096},
                    "vision_config": {"a": 1},
                }
            },
            "context_tokens is 131072, and config.json allows 4096",
        ),
        (
            "2501",
            {"image_limit": 4},
            {},
            "image_limit is 4, and params.json has no vision encoder",
        ),
        (
            "3.2",
            {},
            {"tekken": without("3.2", "[CALL_ID]")},
            "tokenizer v11 with images has [TOOL_CALLS] [ARGS] [CALL_ID] [IMG] [IMG_BREAK] "
            "[IMG_END], and tekken.json lacks [CALL_ID]",
        ),
        (
            "2501",
            {},
            {"tekken": {"special_tokens": [{"rank": 5, "token_str": "[TOOL_CALLS]"}]}},
            "tokenizer v7 has [TOOL_CALLS] as token 9, and tekken.json as token 5",
        ),
    ],
)
def test_a_mismatch_is_told_with_both_values(
    preset: str, claims: dict[str, Any], files: dict[str, Any], message: str
) -> None:
    assert message in found(preset, claims, **files)


@pytest.mark.parametrize(
    ("claims", "files"),
    [
        ({"context_tokens": 8192}, {}),
        ({"context_tokens": 65536, "vllm_args": {"hf_overrides": {"max_seq_len": 65536}}}, {}),
        (
            {"context_tokens": 65536},
            {
                "config": {
                    "max_position_embeddings": 32768,
                    "rope_parameters": {"rope_type": "linear", "factor": 2.0},
                }
            },
        ),
        ({"context_tokens": 65536}, {"config": {}}),
        ({}, {"tekken": {"special_tokens": None}}),
        ({}, {"tekken": {"config": {}}}),
    ],
    ids=["shorter", "overridden", "scaled", "unstated", "no special tokens", "no version"],
)
def test_what_the_files_do_not_contradict_passes(
    claims: dict[str, Any], files: dict[str, Any]
) -> None:
    assert found("2501", claims, **files) == []


def test_a_file_that_is_not_there_contradicts_nothing() -> None:
    entry = catalogue.load(ENTRIES["2501"]).model_copy(update={"context_tokens": 10**6})
    assert mismatches(entry, None, None) == []

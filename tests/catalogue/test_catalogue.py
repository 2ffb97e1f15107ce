import pytest
from pydantic import ValidationError

from serving import catalogue
from serving.catalogue import CatalogueEntry
from serving.tiny import PRESETS

ENTRY = {"id": "a/b", "weights": "a/b", "accelerator": "gpu", "host_memory_gib": 1}


def test_the_names_are_sorted_and_hold_the_models_of_the_readme() -> None:
    names = catalogue.names()
    assert names == sorted(names)
    assert {"tiny-mistral-small-3.2", "mistral-small-3.2-24b-instruct-2506"} <= set(names)


@pytest.mark.parametrize("name", catalogue.names())
def test_each_entry_is_valid_and_found_under_its_files_name(name: str) -> None:
    entry = catalogue.load(name)
    assert entry.id.rsplit("/", 1)[-1].lower() == name
    assert (entry.embedded in PRESETS) == (entry.accelerator == "cpu")


def test_no_two_entries_share_an_id_or_an_alias() -> None:
    entries = [catalogue.load(name) for name in catalogue.names()]
    taken = [name for entry in entries for name in (entry.id, *entry.aliases)]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize("name", catalogue.names())
def test_the_mistral_format_is_asked_for_throughout(name: str) -> None:
    args = catalogue.load(name).vllm_args
    formats = {args[flag] for flag in ("tokenizer-mode", "config-format", "load-format")}
    assert formats == {"mistral"}
    assert args["tool-call-parser"] == "mistral" and args["enable-auto-tool-choice"] is True


@pytest.mark.parametrize("name", ["", "unknown", "../config", "tiny-mistral-small-3.2.yaml"])
def test_an_unknown_name_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        catalogue.load(name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"accelerator": "tpu"},
        {"tensor_parallel_size": 0},
        {"pipeline_parallel_size": 0},
        {"host_memory_gib": 0},
        {"unknown": 1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_field_is_refused(wrong: dict[str, object]) -> None:
    CatalogueEntry.model_validate(ENTRY)
    with pytest.raises(ValidationError):
        CatalogueEntry.model_validate(ENTRY | wrong)


def test_an_entry_does_not_change_once_loaded() -> None:
    entry = CatalogueEntry.model_validate(ENTRY)
    with pytest.raises(ValidationError):
        entry.id = "other"


@pytest.mark.parametrize(
    ("weights", "preset"),
    [("embedded", "3.2"), ("embedded:2501", "2501"), ("a/b", None), ("/models/embedded", None)],
)
def test_embedded_weights_name_a_preset(weights: str, preset: str | None) -> None:
    entry = CatalogueEntry.model_validate(ENTRY | {"weights": weights})
    assert entry.embedded == preset

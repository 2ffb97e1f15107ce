"""Where a model's default system prompt is found."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from serving import catalogue
from serving.catalogue import CatalogueEntry
from serving.catalogue.system_prompt import SystemPromptError, default_system_prompt


def entry(**fields: Any) -> CatalogueEntry:
    base = {"id": "a/b", "tokenizer": "v7", "context_tokens": 100, "sampling": {"temperature": 0}}
    if "kind" not in fields:
        base["weights"] = "a/b"
    return CatalogueEntry.model_validate(base | fields)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """What is asked of a hub that has the prompt of every repository but "no/prompt"."""
    asked = []

    def download(repository: str, file: str, revision: str | None = None) -> str:
        asked.append((repository, file, revision))
        if repository == "no/prompt":
            raise FileNotFoundError("404")
        path = tmp_path / "downloaded.txt"
        path.write_text(f"You are {{name}} of {repository}.", encoding="utf-8")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_the_entrys_own_comes_first(hub: list[Any]) -> None:
    assert default_system_prompt(entry(system_prompt="Be brief.")) == "Be brief."
    assert hub == []


def test_else_the_weights_repository_at_its_commit(hub: list[Any]) -> None:
    assert default_system_prompt(entry(revision="c0ffee")) == "You are {name} of a/b."
    assert hub == [("a/b", "SYSTEM_PROMPT.txt", "c0ffee")]


def test_a_quantised_copy_has_that_of_its_base(hub: list[Any]) -> None:
    copy = entry(revision="1", tokenizer_repository="base/model", tokenizer_revision="2")
    assert default_system_prompt(copy) == "You are {name} of base/model."
    assert hub == [("base/model", "SYSTEM_PROMPT.txt", "2")]


def test_a_folder_has_its_own(tmp_path: Path, hub: list[Any]) -> None:
    (tmp_path / "SYSTEM_PROMPT.txt").write_text("Café.", encoding="utf-8")
    assert default_system_prompt(entry(weights=str(tmp_path))) == "Café."
    assert hub == []


def test_where_there_is_none_it_is_said_what_to_do(tmp_path: Path, hub: list[Any]) -> None:
    remote = entry(kind="openai", base_url="http://localhost/v1")
    for without in (entry(weights=str(tmp_path)), entry(weights="no/prompt"), remote):
        with pytest.raises(SystemPromptError, match=r"a/b has no default .*default_system_prompt"):
            default_system_prompt(without)


def test_no_card_prints_the_one_of_small_3_2_so_its_commit_has_it(hub: list[Any]) -> None:
    small = catalogue.load("mistral-small-3.2-24b-instruct-2506", "int4")
    default_system_prompt(small)
    base = catalogue.load("mistral-small-3.2-24b-instruct-2506")
    assert hub == [(base.weights, "SYSTEM_PROMPT.txt", base.revision)]

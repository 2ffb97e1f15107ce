"""`mistral-serve models`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving import catalogue
from serving.cli.commands import app

SMALL = "mistral-small-3.2-24b-instruct-2506"


def models(*args: str) -> Result:
    """Runs the command, whose output is a pipe."""
    return CliRunner().invoke(app, ["models", *args], env={"COLUMNS": "40"})


def test_all_models_and_variants_are_listed_uncut_when_piped() -> None:
    output = models().output
    for name in catalogue.names():
        file = catalogue.read(name)
        assert f"{file.id}  (also {', '.join(file.aliases)})" in output
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert "bf16-tp2 2 x H100-80GB 131,072 44.7 640,544 4.9 95a6d26 unverified" in lines
    assert "int4 1 x RTX-4090 32,768 14.1 42,190 1.3 unpinned unverified" in lines
    assert "- none (CPU) 131,072 - - - - verified" in lines
    assert "\x1b" not in output and "…" not in output


def test_one_model_is_shown_with_its_sums() -> None:
    output = models(SMALL).output
    assert "Magistral" not in output
    for variant in catalogue.read(SMALL).variants:
        memory = catalogue.load(SMALL, variant).memory()
        assert memory
        assert "\n".join([variant, ""]) in output
        assert "\n".join(memory.lines()) in output
    assert "22,245 prompt tokens/s, 10.0 ms a decode step (by formula, not measured)" in output
    assert "revision 95a6d26c4bfb886c58daf9d3f7332c857cb27b43" in output


@pytest.mark.parametrize("name", catalogue.names())
def test_each_name_in_the_list_is_understood(name: str) -> None:
    file = catalogue.read(name)
    for other in (file.id, *file.aliases):
        assert models(other).output == models(name).output


def test_no_two_models_share_a_name() -> None:
    files = [catalogue.read(name) for name in catalogue.names()]
    listed = [name for file in files for name in (file.id, *file.aliases)] + catalogue.names()
    assert len(set(listed)) == len(listed)


def test_json_has_every_variant_with_its_numbers() -> None:
    listed = json.loads(models("--json").output)
    expected = [
        (catalogue.read(name).id, variant)
        for name in catalogue.names()
        for variant in catalogue.read(name).variants or [None]
    ]
    assert [(model["id"], model["variant"]) for model in listed] == expected
    (int4,) = json.loads(models(SMALL, "--json").output)[-1:]
    assert (int4["variant"], int4["weights_gib"], int4["gpus"]) == ("int4", 14.07, 1)
    assert int4["fits"] and not int4["verified"]
    assert int4["kv_tokens"] / int4["context_tokens"] == pytest.approx(
        int4["full_contexts"], abs=0.01
    )


def test_a_file_of_ones_own_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "id: me/mine\nweights: /models/mine\ntokenizer: v7\ncontext_tokens: 1000\n"
        "sampling: {temperature: 0}\ngpu: 31.5\n"
    )
    output = models(str(file)).output
    assert "me/mine  (also under no other name)" in output
    assert "1 x 31.5 GiB" in output


@pytest.mark.parametrize(
    ("model", "says"), [("gpt", "unknown model 'gpt'; the catalogue has: "), ("none.yaml", "none")]
)
def test_an_unknown_model_is_refused(model: str, says: str) -> None:
    result = models(model)
    assert result.exit_code == 1
    assert result.output.startswith(f"mistral-serve: {says}")

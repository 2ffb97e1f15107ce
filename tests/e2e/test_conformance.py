"""The conformance suite through the router: what the models' documents promise, kept by the whole
service for each of the embedded models."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import catalogue
from serving.tiny import PRESETS, ensure_tiny_model
from tests.e2e.service import COMMAND, Service, free_port, running, write_models_config

MODELS = [name for name in catalogue.names() if catalogue.load(name).embedded]
SKIPPED = {
    "no API key was given",
    "needs the public web",
    "the model sees images",
    "the model sees no images",
    "the model does not reason",
}


@pytest.fixture(scope="module")
def three_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service of all embedded models, a replica each."""
    # On a busy machine to train them takes longer than a service may take to start.
    for spec in PRESETS.values():
        ensure_tiny_model(spec)
    path = tmp_path_factory.mktemp("three-models") / "three.yaml"
    config = write_models_config(path, free_port(), MODELS)
    with running(config) as service:
        yield service


@pytest.mark.parametrize("name", MODELS)
def test_every_check_passes(three_models: Service, name: str) -> None:
    entry = catalogue.load(name)
    assert entry.embedded is not None
    tokenizer = ensure_tiny_model(PRESETS[entry.embedded])
    where: list[str | Path] = ["--url", three_models.url, "--tokenizer", tokenizer]
    result = subprocess.run(
        [COMMAND, "conformance", "--model", entry.id, *where, "--json"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    document = json.loads(result.stdout)
    rows = document["results"]
    assert {row["check"]: row["reason"] for row in rows if row["status"] == "fail"} == {}
    assert {row["reason"] for row in rows if row["status"] == "skip"} <= SKIPPED
    assert (document["family"], document["profile"]) == (entry.embedded, "tiny")
    assert result.returncode == 0

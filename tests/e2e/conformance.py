"""Runs the conformance suite on a service of an embedded model."""

import json
import subprocess
from pathlib import Path

from serving import catalogue
from serving.tiny import tiny_model_folder
from tests.e2e.service import COMMAND

SKIPPED = {
    "no API key was given",
    "needs the public web",
    "the model sees images",
    "the model sees no images",
    "the model does not reason",
}
"""The reasons for which a check may be skipped."""


def assert_every_check_passes(url: str, name: str) -> None:
    """Fails with the checks that a service of this catalogue model fails."""
    entry = catalogue.load(name)
    assert entry.embedded is not None
    tokenizer = tiny_model_folder(entry.embedded)
    where: list[str | Path] = ["--url", url, "--tokenizer", tokenizer]
    result = subprocess.run(
        [COMMAND, "conformance", "--model", entry.id, *where, "--json"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    document = json.loads(result.stdout)
    rows = document["results"]
    failed = {row["check"]: row["reason"] for row in rows if row["status"] == "fail"}
    assert failed == {}, failed  # pytest shows no values of a helper's own module
    assert {row["reason"] for row in rows if row["status"] == "skip"} <= SKIPPED
    assert (document["family"], document["profile"]) == (entry.embedded, "tiny")
    assert result.returncode == 0

"""The short form of the fault suite: fewer streams, and only the events that take seconds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.events import EVENTS

ROOT = Path(__file__).parents[2]
NAMES = [event.name for event in EVENTS if event.in_short]
CONTINUED = {"kill -9 of an engine", "an engine resets connections"}


def run(file: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The suite's rows by event. It runs in a process of its own so that its Ray stays separate."""
    suite = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--short", "--json", file, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert file.exists(), suite.stdout
    return {row["event"]: row for row in json.loads(file.read_text())}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return run(tmp_path_factory.mktemp("faults") / "rows.json")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost(rows: dict[str, dict[str, Any]], name: str) -> None:
    row = rows[name]
    assert row["faults"] == []
    assert row["streams"] > 0
    assert (row["continued"] > 0) == (name in CONTINUED)
    assert (row["refused"] > 0) == (name == "a flood past the bound")


@pytest.mark.full
def test_nothing_is_lost_while_routers_come_and_go_with_a_flood(tmp_path: Path) -> None:
    name = "routers scale 1 to 3 to 1"
    row = run(tmp_path / "rows.json", "--only", name)[name]
    assert row["faults"] == []
    assert row["streams"] > 0

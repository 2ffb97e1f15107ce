"""Streams of a real engine that go on from behind each of their events, to the same answer."""

import json
import subprocess
import sys

import pytest

from tests.e2e.continued_engine import cases
from tests.e2e.service import ROOT

pytestmark = pytest.mark.full


@pytest.mark.parametrize("model", ["tiny-mistral-small-3.2", "tiny-magistral-small"])
def test_every_kind_of_stream_goes_on_from_each_event(model: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.e2e.continued_engine", model],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=900,
        check=True,
    )
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith(b"[")]
    assert {name for name, *_ in found} >= cases(None).keys()
    assert all(places for _, places, _ in found)
    assert [name for name, _, different in found if different] == []

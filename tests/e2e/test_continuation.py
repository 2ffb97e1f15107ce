"""Streams of a real engine that go on from behind each of their events, to the same answer."""

import json
import subprocess
import sys

import pytest

from tests.e2e.continued_engine import cases, of_tokens_alone
from tests.e2e.service import ROOT, own_temporary_folder

pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("tiny-mistral-small-3.2", ()),
        ("tiny-magistral-small", ()),
        ("tiny-mistral-small-3.2", ("prompt",)),
    ],
)
def test_every_kind_of_stream_goes_on_from_each_event(model: str, mode: tuple[str, ...]) -> None:
    with own_temporary_folder() as environment:
        ran = subprocess.run(
            [sys.executable, "-m", "tests.e2e.continued_engine", model, *mode],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            timeout=900,
            check=True,
        )
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith(b"[")]
    asked = {
        name for name, (_, fields) in cases(None).items() if not mode or of_tokens_alone(fields)
    }
    assert {name for name, *_ in found} >= asked
    assert all(places for _, places, _ in found)
    assert [name for name, _, different in found if different] == []

"""A hundred adapters on two stand-in engines of a real deployment, while adapters come, change and
go, engines are killed and routers replaced."""

import json
import subprocess
import sys

import pytest

from tests.faults.test_faults import ROOT


@pytest.mark.full
def test_every_request_is_answered_by_its_adapter() -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "tests.faults.adapters", "--requests", "20000", "--limit-s", "900"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert asked.returncode == 0, asked.stderr[-4000:]
    told = json.loads(asked.stdout.splitlines()[-1])  # after lines of Ray's
    assert told["outcomes"] == {"right": 20_000}, told["wrong"]
    assert told["changes"] and told["kills"]["core"] and told["kills"]["replica"]

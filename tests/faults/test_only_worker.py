"""The drain of a worker without a successor, with real Ray Serve and stand-in engines."""

import subprocess
import sys

import pytest

from tests.faults.test_faults import ROOT
from tests.faults.two_nodes import REDIS


@pytest.mark.full
@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
def test_it_finishes_its_answer_and_ends() -> None:
    drained = subprocess.run(
        [sys.executable, "-m", "tests.faults.only_worker"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert drained.returncode == 0, drained.stderr
    assert drained.stdout.strip() == "data: [DONE]"

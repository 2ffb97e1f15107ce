"""A real engine that drains with little time left hands its streams over to another one."""

import json
import subprocess
import sys

import pytest

from tests.e2e.service import ROOT, own_temporary_folder


@pytest.mark.full
def test_long_streams_go_on_at_the_other_engine() -> None:
    with own_temporary_folder() as environment:
        ran = subprocess.run(
            [sys.executable, "-m", "tests.e2e.drained_engine"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            timeout=600,
            check=True,
        )
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith(b"["))
    streams, handed_over, different, retries, cut_off = json.loads(line)
    assert (different, retries, cut_off) == (0, 0, 0)
    assert 0 < handed_over <= streams

"""The last step of the image's build, run with this environment's packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.full  # each imports vLLM, with all of its kernels


def check(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "deploy/check_image.py", "cpu"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )


def test_what_an_engine_needs_is_here() -> None:
    result = check()
    assert result.returncode == 0, result.stderr


def test_without_libnuma_the_build_fails(tmp_path: Path) -> None:
    (tmp_path / "libnuma.so.1").touch()  # the loader takes it, and finds no library
    result = check(LD_LIBRARY_PATH=str(tmp_path))
    assert result.returncode == 1 and "libnuma.so.1" in result.stderr

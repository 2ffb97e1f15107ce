"""The committed files are those that the code generates."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dashboards.generate.__main__ import FOLDER, files
from tests.dashboards.queries import ROOT


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert path.read_text() == files()[path], f"run `make dashboards`: {path.name} is old"


def test_no_generated_file_is_left_over() -> None:
    there = {*FOLDER.glob("*.json"), *FOLDER.glob("rules/*")}
    assert there == set(files())


def test_the_command_writes_what_is_missing(tmp_path: Path) -> None:
    copy = tmp_path / "dashboards"
    shutil.copytree(FOLDER, copy)
    (copy / "service.json").unlink()
    (copy / "rules/alerts.yaml").write_text("old")
    result = subprocess.run(
        [sys.executable, "-m", "dashboards.generate"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(result.stdout.splitlines()) == [
        "wrote dashboards/rules/alerts.yaml",
        "wrote dashboards/service.json",
    ]
    for name in ("service.json", "rules/alerts.yaml"):
        assert (copy / name).read_text() == (FOLDER / name).read_text()

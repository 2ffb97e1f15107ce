"""Tests of the file in which `up` records its process."""

import os
import time
from pathlib import Path

import psutil
import pytest

from serving.cli import pidfile
from serving.cli.preflight import PreflightError

PORT = 8000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_running_up_is_found_under_its_port() -> None:
    with pidfile.noted(PORT):
        found = pidfile.find(PORT)
        assert found is not None and found.pid == os.getpid()
        assert pidfile.find(PORT + 1) is None
    assert pidfile.find(PORT) is None
    assert not pidfile.path(PORT).exists()


def test_a_number_that_belongs_to_another_program_by_now_is_not_found() -> None:
    with pidfile.noted(PORT):
        killed_s = psutil.Process().create_time() - 3600
        pidfile.path(PORT).write_text(f"{os.getpid()} {killed_s}")
        assert pidfile.find(PORT) is None


def test_a_clock_that_was_set_right_meanwhile_does_not_hide_it() -> None:
    with pidfile.noted(PORT):
        pidfile.path(PORT).write_text(f"{os.getpid()} {psutil.Process().create_time() - 1}")
        assert pidfile.find(PORT) is not None


@pytest.mark.parametrize(
    "content",
    ["", "x y", str(os.getpid()), f"0 {time.time()}"],
    ids=["empty", "words", "no time", "no process"],
)
def test_a_file_of_another_form_names_no_process(content: str) -> None:
    with pidfile.noted(PORT):
        pidfile.path(PORT).write_text(content)
        assert pidfile.find(PORT) is None


def test_a_folder_that_cannot_be_written_is_told(cache: Path) -> None:
    (cache / "mistral-serve").write_text("a file")
    with pytest.raises(PreflightError, match="Set XDG_CACHE_HOME"), pidfile.noted(PORT):
        pass


def test_a_runtime_folder_that_is_not_there_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    with pidfile.noted(PORT):
        assert pidfile.find(PORT) is not None


def test_where_its_ray_exports_metrics_is_noted() -> None:
    with pidfile.noted(PORT):
        assert pidfile.ray_metrics(PORT) is None
        pidfile.note_ray_metrics(PORT, "127.0.0.1:1234")
        address = pidfile.ray_metrics(PORT)
        assert address == "127.0.0.1:1234"
        assert pidfile.find(PORT) is not None
    assert pidfile.ray_metrics(PORT) is None

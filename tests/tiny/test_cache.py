"""The cache holds complete folders only, one for each recipe."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from serving.tiny import TinySpec, tiny_model_folder
from serving.tiny.cache import cache_root, content_hash, ensure_folder


def _write(folder: Path) -> None:
    (folder / "weights").write_text("done")


def _unwanted(folder: Path) -> None:
    raise AssertionError(f"built {folder} again")


def test_builds_once_and_leaves_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "tiny-1"
    assert ensure_folder(folder, _write) == folder
    assert ensure_folder(folder, _unwanted) == folder
    assert {p.name for p in folder.parent.iterdir()} == {"tiny-1", "tiny-1.lock"}


def test_failed_build_leaves_no_folder(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        _write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_folder(tmp_path / "tiny-1", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny-1.lock"]
    ensure_folder(tmp_path / "tiny-1", _write)


def _build_forever(folder: Path) -> None:
    def build(partial: Path) -> None:
        _write(partial)
        time.sleep(60)

    ensure_folder(folder, build)


def test_killed_build_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-1"
    process = multiprocessing.get_context("spawn").Process(target=_build_forever, args=(folder,))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("*.partial-*/weights")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not folder.exists()
    assert (ensure_folder(folder, _write) / "weights").read_text() == "done"


def test_abandoned_partial_folders_are_removed(tmp_path: Path) -> None:
    old, fresh = tmp_path / "tiny-0.partial-a", tmp_path / "tiny-0.partial-b"
    for partial in (old, fresh):
        partial.mkdir()
    os.utime(old, (0, 0))
    ensure_folder(tmp_path / "tiny-1", _write)
    assert not old.exists()
    assert fresh.exists()


def _build_slowly(folder: Path, log: Path) -> None:
    def build(partial: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        _write(partial)

    ensure_folder(folder, build)


def test_two_processes_build_one_folder(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache" / "tiny-1", tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_build_slowly, args=(folder, log)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert log.read_text() == "built\n"
    assert (folder / "weights").read_text() == "done"


def test_hash_follows_sources_and_values(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("x = 1\n")
    first = content_hash(tmp_path, TinySpec())
    assert content_hash(tmp_path, TinySpec()) == first
    assert content_hash(tmp_path, TinySpec(seed=1)) != first
    (tmp_path / "notes.txt").write_text("not a source")
    assert content_hash(tmp_path, TinySpec()) == first
    source.write_text("x = 2\n")
    assert content_hash(tmp_path, TinySpec()) != first


def test_cache_root_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "mistral-serve"
    assert tiny_model_folder().parent == tmp_path / "mistral-serve"
    assert tiny_model_folder().name.startswith("tiny-")
    assert tiny_model_folder(TinySpec(steps=1)) != tiny_model_folder()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "mistral-serve"

"""The file of stored responses: the processes that share it, and what may happen to it."""

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from serving.router.responses.sqlite_store import FILE, SqliteStore
from serving.router.responses.store import StoredResponse, StoreError
from tests.router.responses.test_store import ids


def response(response_id: str, size: int = 100) -> StoredResponse:
    return StoredResponse("a", response_id, "completed", b"[]", b"x" * (size - 2))


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "folder"
    SqliteStore(folder, 60, 1000).put(response("1"))
    for path in (folder, *folder.iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


CHILD = """
import sys
from pathlib import Path
from serving.router.responses.sqlite_store import SqliteStore
from serving.router.responses.store import StoredResponse
store = SqliteStore(Path(sys.argv[1]), 60, 10**6)
for n in range(200):
    stored = StoredResponse("a", f"{sys.argv[2]}-{n}", "completed", b"[]", b"{}" * 100)
    assert store.put(stored)
    assert store.get("a", f"{sys.argv[2]}-{n}") is not None
"""


def test_processes_share_a_file(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), str(n)]) for n in range(3)
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    store = SqliteStore(tmp_path, 3600, 10**6)
    assert all(store.get("a", f"{child}-{n}") for child in range(3) for n in range(200))


@pytest.mark.parametrize("opened", [False, True])
def test_a_damaged_file_is_replaced(tmp_path: Path, opened: bool) -> None:
    store, other = SqliteStore(tmp_path, 60, 10**6), SqliteStore(tmp_path, 60, 10**6)
    for n in range(20):
        store.put(response(str(n), size=2000))
    if opened:
        assert len(ids(other)) == 20
    store.close()
    if not opened:
        other.close()
    with (tmp_path / FILE).open("r+b") as file:
        file.write(b"damaged " * 4000)
    for suffix in ("-wal", "-shm"):
        Path(f"{tmp_path / FILE}{suffix}").unlink(missing_ok=True)
    assert store.put(response("1"))
    assert ids(store) == [1]
    assert other.put(response("2"))
    assert ids(store) == ids(other) == [1, 2]


def test_a_removed_folder_is_made_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "folder", 60, 10**6)
    store.put(response("1"))
    for path in (tmp_path / "folder").iterdir():
        path.unlink()
    (tmp_path / "folder").rmdir()
    assert store.get("a", "1") is None
    assert store.put(response("2"))
    assert ids(store) == [2]


def test_an_unusable_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        SqliteStore(tmp_path / "file", 60, 1000).put(response("1"))


def test_a_locked_file_is_a_store_error_and_then_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.router.responses.sqlite_store._BUSY_S", 0.05)
    store = SqliteStore(tmp_path, 60, 1000)
    store.put(response("1"))
    store.close()
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.put(response("2"))
    other.execute("ROLLBACK")
    assert store.put(response("2"))
    other.close()
    assert ids(store) == [1, 2]


def test_a_full_disk_is_a_store_error(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, 60, 10**7)
    store.put(response("1"))
    assert store._open is not None
    pages = store._open.execute("PRAGMA page_count").fetchone()[0]
    store._open.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to be full
    with pytest.raises(StoreError, match="full"):
        store.put(response("2", size=100_000))
    assert ids(store) == [1]

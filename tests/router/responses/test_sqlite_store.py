"""The file of stored responses: its limits, and the processes that share it."""

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from serving.router.responses.sqlite_store import FILE, SqliteStore
from serving.router.responses.store import StoredResponse, StoreError


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> SqliteStore:
    """A store of 1000 bytes for two tenants."""
    return SqliteStore(tmp_path / "a" / "folder", 60, 1000, 2, clock)


def response(
    response_id: str, tenant: str = "a", size: int = 100, status: str = "completed"
) -> StoredResponse:
    return StoredResponse(tenant, response_id, status, b"[]", b"x" * (size - 2), "resp_0")


def ids(store: SqliteStore, tenant: str = "a") -> list[int]:
    return [n for n in range(20) if store.get(tenant, str(n)) is not None]


def test_what_is_put_is_got_until_it_is_deleted(store: SqliteStore) -> None:
    one = response("1")
    assert store.put(one)
    found = store.get("a", "1")
    assert found is not None
    assert (found.input, found.response, found.status) == (one.input, one.response, "completed")
    assert (found.previous_id, found.background) == ("resp_0", False)
    assert store.get("b", "1") is None and not store.delete("b", "1")
    assert store.delete("a", "1") and not store.delete("a", "1")
    assert store.get("a", "1") is None


def test_the_oldest_of_a_tenant_go_first(store: SqliteStore, clock: Clock) -> None:
    store.put(response("1", "b"))
    for n in range(7):
        clock.now_s += 1
        store.put(response(str(n)))
    assert ids(store) == [2, 3, 4, 5, 6]
    assert ids(store, "b") == [1]
    store.put(response("7", size=450))
    assert ids(store) == [7]
    assert ids(store, "b") == [1]


def test_the_total_has_a_limit_too(tmp_path: Path, clock: Clock) -> None:
    """Another configuration may have had fewer tenants, with larger shares."""
    before = SqliteStore(tmp_path, 60, 1000, 1, clock)
    for n in range(9):
        clock.now_s += 1
        before.put(response(str(n)))
    after = SqliteStore(tmp_path, 60, 1000, 2, clock)
    clock.now_s += 1
    after.put(response("1", "b", size=500))
    assert ids(after) == [4, 5, 6, 7, 8]


def test_what_is_too_large_is_not_kept_and_takes_nothings_place(store: SqliteStore) -> None:
    store.put(response("1"))
    assert not store.put(response("2", size=501))
    assert store.put(response("3", size=400))
    assert ids(store) == [1, 3]


def test_a_response_replaces_one_with_its_id(store: SqliteStore) -> None:
    for _ in range(20):
        assert store.put(response("1", size=400))
    store.put(response("2"))
    assert ids(store) == [1, 2]


def test_a_response_expires(store: SqliteStore, clock: Clock) -> None:
    store.put(response("1"))
    clock.now_s += 59
    store.put(response("2"))
    assert ids(store) == [1, 2]
    clock.now_s += 1
    assert ids(store) == [2]
    store.expire()
    clock.now_s -= 1
    assert ids(store) == [2], "it is not only hidden"


def test_only_what_runs_advances(store: SqliteStore, clock: Clock) -> None:
    store.put(response("1", status="queued"))
    store.put(response("2"))
    clock.now_s += 5
    assert store.seen([("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")]) == {("a", "1")}
    found = store.get("a", "1")
    assert found is not None and found.seen_s == clock.now_s
    assert store.advance(response("1", size=450, status="cancelled"))
    assert not store.advance(response("1"))
    assert not store.advance(response("3"))
    assert ids(store) == [1], "it has grown, and the other had to go"


def test_nobody_else_may_read_it(store: SqliteStore, tmp_path: Path) -> None:
    store.put(response("1"))
    folder = tmp_path / "a" / "folder"
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

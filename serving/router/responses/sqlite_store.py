"""Keeps responses in a file of SQLite that all routers of a node share."""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from serving.router.responses.store import RUNNING, StoredResponse, StoreError

T = TypeVar("T")

FILE = "responses-1.sqlite3"
"""The number is that of the tables' form: another form has another file."""
_BUSY_S = 2.0
"""How long a call waits for other processes."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SIDE_FILES = ("", "-wal", "-shm")
_COLUMNS = "tenant, id, status, input, response, previous_id, background, seen_s"
_RUNNING = "status IN ({})".format(", ".join(f"'{status}'" for status in sorted(RUNNING)))

_TABLES = """
CREATE TABLE IF NOT EXISTS responses (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,
    input BLOB NOT NULL,
    response BLOB NOT NULL,
    previous_id TEXT,
    background INTEGER NOT NULL,
    seen_s REAL NOT NULL,
    created_s REAL NOT NULL,
    bytes INTEGER NOT NULL,
    UNIQUE (tenant, id)
);
CREATE INDEX IF NOT EXISTS by_age ON responses (created_s);
CREATE INDEX IF NOT EXISTS by_age_of_tenant ON responses (tenant, created_s);
CREATE TABLE IF NOT EXISTS usage (tenant TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON responses BEGIN
    INSERT INTO usage VALUES (new.tenant, new.bytes)
        ON CONFLICT (tenant) DO UPDATE SET bytes = bytes + new.bytes;
END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON responses BEGIN
    UPDATE usage SET bytes = bytes - old.bytes WHERE tenant = old.tenant;
END;
CREATE TRIGGER IF NOT EXISTS resized AFTER UPDATE OF bytes ON responses BEGIN
    UPDATE usage SET bytes = bytes + new.bytes - old.bytes WHERE tenant = new.tenant;
END;
"""


class SqliteStore:
    """A `ResponseStore` in a file below `folder`. To be called by one thread at a time.

    It keeps `max_bytes` in total, an equal share of that for each of `tenants`, and everything for
    `keep_s` at most; the oldest responses go first. A damaged file is replaced by an empty one.
    """

    def __init__(
        self,
        folder: Path,
        keep_s: float,
        max_bytes: int,
        tenants: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = folder / FILE
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._share_bytes = max_bytes // max(tenants, 1)
        self._clock = clock
        self._open: sqlite3.Connection | None = None
        self._inode = 0

    @property
    def largest_bytes(self) -> int:
        return self._share_bytes

    def put(self, stored: StoredResponse) -> bool:
        if stored.size_bytes > self._share_bytes:
            return False

        def write(db: sqlite3.Connection) -> bool:
            now_s = self._clock()
            self._delete_expired(db, now_s)
            key = (stored.tenant, stored.response_id)
            db.execute("DELETE FROM responses WHERE tenant = ? AND id = ?", key)
            db.execute(
                f"INSERT INTO responses ({_COLUMNS}, created_s, bytes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *key,
                    stored.status,
                    stored.input,
                    stored.response,
                    stored.previous_id,
                    stored.background,
                    now_s,
                    now_s,
                    stored.size_bytes,
                ),
            )
            self._make_room(db, key)
            return True

        return self._transaction(write)

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        if not response_id.isascii():  # SQLite takes no lone surrogates
            return None

        def read(db: sqlite3.Connection) -> StoredResponse | None:
            row = db.execute(
                f"SELECT {_COLUMNS} FROM responses WHERE tenant = ? AND id = ? AND created_s > ?",
                (tenant, response_id, self._clock() - self._keep_s),
            ).fetchone()
            if row is None:
                return None
            status, kept_input, response, previous_id, background, seen_s = row[2:]
            return StoredResponse(
                tenant,
                response_id,
                status,
                kept_input,
                response,
                previous_id,
                bool(background),
                self._clock() - seen_s,
            )

        return self._call(read)

    def delete(self, tenant: str, response_id: str) -> bool:
        if not response_id.isascii():
            return False

        def write(db: sqlite3.Connection) -> bool:
            self._delete_expired(db, self._clock())
            key = (tenant, response_id)
            return bool(
                db.execute("DELETE FROM responses WHERE tenant = ? AND id = ?", key).rowcount
            )

        return self._transaction(write)

    def advance(self, stored: StoredResponse) -> bool:
        key = (stored.tenant, stored.response_id)

        def write(db: sqlite3.Connection) -> bool:
            done = db.execute(
                "UPDATE responses SET status = ?, response = ?, bytes = ?, seen_s = ? "
                f"WHERE tenant = ? AND id = ? AND {_RUNNING}",
                (stored.status, stored.response, stored.size_bytes, self._clock(), *key),
            )
            self._make_room(db, key)
            return bool(done.rowcount)

        return self._transaction(write)

    def seen(self, running: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        def write(db: sqlite3.Connection) -> set[tuple[str, str]]:
            now_s = self._clock()
            query = f"UPDATE responses SET seen_s = ? WHERE tenant = ? AND id = ? AND {_RUNNING}"
            return {key for key in running if db.execute(query, (now_s, *key)).rowcount}

        return self._transaction(write)

    def expire(self) -> None:
        self._transaction(lambda db: self._delete_expired(db, self._clock()))

    def close(self) -> None:
        db, self._open = self._open, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _delete_expired(self, db: sqlite3.Connection, now_s: float) -> None:
        db.execute("DELETE FROM responses WHERE created_s <= ?", (now_s - self._keep_s,))

    def _make_room(self, db: sqlite3.Connection, kept: tuple[str, str]) -> None:
        """Deletes the oldest responses beyond the limits, all but `kept`."""
        tenant, _ = kept
        of_tenant, everyone = (" AND tenant = ?", (tenant,)), ("", ())
        limits = ((of_tenant, self._share_bytes), (everyone, self._max_bytes))
        for (condition, parameters), limit in limits:
            used = f"SELECT total(bytes) FROM usage WHERE true{condition}"
            while db.execute(used, parameters).fetchone()[0] > limit:
                oldest = (
                    "DELETE FROM responses WHERE rowid = (SELECT rowid FROM responses "
                    f"WHERE NOT (tenant = ? AND id = ?){condition} ORDER BY created_s LIMIT 1)"
                )
                if not db.execute(oldest, (*kept, *parameters)).rowcount:
                    break

    def _transaction(self, write: Callable[[sqlite3.Connection], T]) -> T:
        def whole(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            done = write(db)
            db.execute("COMMIT")
            return done

        return self._call(whole)

    def _call(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Calls with the open file. After any error it is opened anew: what was begun is undone."""
        try:
            try:
                return call(self._connection())
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                    raise
                self._replace()
                return call(self._connection())
        except (sqlite3.Error, OSError) as error:
            self.close()
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(f"{self._path}: {why}") from None

    def _connection(self) -> sqlite3.Connection:
        """Returns the open file, unless another process has replaced it meanwhile."""
        if self._open is not None:
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    return self._open
            self.close()
        with self._alone():
            # No one else may read prompts; SQLite gives its other files the same permissions.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            db = sqlite3.connect(
                self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._open, self._inode = db, self._path.stat().st_ino
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA journal_size_limit = {1 << 24}")
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        return db

    def _replace(self) -> None:
        """Removes the damaged file, unless another process has already."""
        inode = self._inode
        self.close()
        with self._alone(), contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == inode:
                for suffix in _SIDE_FILES:
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from opening or removing the file meanwhile."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

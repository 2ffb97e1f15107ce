"""Keeps responses in a file of SQLite that all routers of a node share."""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from serving.router.responses.store import (
    MOST_EVENTS,
    NO_NEWS,
    RUNNING,
    Claim,
    Key,
    News,
    StoredResponse,
    StoreError,
)

T = TypeVar("T")

FILE = "responses-1.sqlite3"
"""The number is that of the tables' form: another form has another file."""
_BUSY_S = 2.0
"""How long a call waits for other processes."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SIDE_FILES = ("", "-wal", "-shm")
_COLUMNS = "tenant, id, status, input, response, previous_id, background"
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
CREATE TABLE IF NOT EXISTS runs (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    request BLOB NOT NULL,
    claims INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id)
);
CREATE TABLE IF NOT EXISTS events (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (tenant, id, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS running ON responses (seen_s) WHERE status IN ('in_progress', 'queued');
CREATE TRIGGER IF NOT EXISTS removed_run AFTER DELETE ON responses BEGIN
    DELETE FROM runs WHERE tenant = old.tenant AND id = old.id;
    DELETE FROM events WHERE tenant = old.tenant AND id = old.id;
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

    def put(
        self, stored: StoredResponse, request: bytes = b"", events: Sequence[bytes] = ()
    ) -> bool:
        size_bytes = stored.size_bytes + len(request) + sum(map(len, events))
        if size_bytes > self._share_bytes:
            return False

        def write(db: sqlite3.Connection) -> bool:
            now_s = self._clock()
            self._delete_expired(db, now_s)
            key = (stored.tenant, stored.response_id)
            db.execute("DELETE FROM responses WHERE tenant = ? AND id = ?", key)
            db.execute(
                f"INSERT INTO responses ({_COLUMNS}, seen_s, created_s, bytes) "
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
                    size_bytes,
                ),
            )
            if stored.background:
                run = (*key, stored.owner, request)
                db.execute("INSERT INTO runs (tenant, id, owner, request) VALUES (?, ?, ?, ?)", run)
            _add_events(db, key, News(0, events))
            self._make_room(db, key)
            return True

        return self._transaction(write)

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        if not response_id.isascii():  # SQLite takes no lone surrogates
            return None
        return self._call(lambda db: self._get(db, (tenant, response_id)))

    def _get(self, db: sqlite3.Connection, key: Key) -> StoredResponse | None:
        row = db.execute(
            f"SELECT {_COLUMNS}, coalesce(owner, '') FROM responses LEFT JOIN runs USING "
            "(tenant, id) WHERE tenant = ? AND id = ? AND created_s > ?",
            (*key, self._clock() - self._keep_s),
        ).fetchone()
        if row is None:
            return None
        status, kept_input, response, previous_id, background, owner = row[2:]
        return StoredResponse(
            *key, status, kept_input, response, previous_id, bool(background), owner
        )

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

    def advance(self, stored: StoredResponse, news: News = NO_NEWS) -> bool:
        key = (stored.tenant, stored.response_id)

        def write(db: sqlite3.Connection) -> bool:
            if not _runs(db, key, stored.owner) or _add_events(db, key, news) is None:
                return False
            db.execute(
                "UPDATE responses SET status = ?, response = ?, seen_s = ?, bytes = ? + "
                "(SELECT coalesce(sum(length(event)), 0) FROM events WHERE tenant = ? AND id = ?) "
                "WHERE tenant = ? AND id = ?",
                (stored.status, stored.response, self._clock(), stored.size_bytes, *key, *key),
            )
            if stored.status not in RUNNING:
                db.execute("UPDATE runs SET request = x'' WHERE tenant = ? AND id = ?", key)
            self._make_room(db, key)
            return True

        return self._transaction(write)

    def report(self, owner: str, running: Mapping[Key, News]) -> set[Key]:
        def write(db: sqlite3.Connection) -> set[Key]:
            now_s, goes_on = self._clock(), set()
            for key, news in running.items():
                if not _runs(db, key, owner) or (added := _add_events(db, key, news)) is None:
                    continue
                db.execute(
                    "UPDATE responses SET seen_s = ?, bytes = bytes + ? "
                    "WHERE tenant = ? AND id = ?",
                    (now_s, added, *key),
                )
                if added:
                    self._make_room(db, key)
                goes_on.add(key)
            return goes_on

        return self._transaction(write)

    def events(self, tenant: str, response_id: str, first: int) -> tuple[str, list[bytes]] | None:
        if not response_id.isascii():
            return None
        key = (tenant, response_id)

        def read(db: sqlite3.Connection) -> tuple[str, list[bytes]] | None:
            row = db.execute(
                "SELECT status FROM responses WHERE tenant = ? AND id = ? AND created_s > ?",
                (*key, self._clock() - self._keep_s),
            ).fetchone()
            return None if row is None else (row[0], _events(db, key, first, MOST_EVENTS))

        return self._call(read)

    def claim(self, owner: str, silent_s: float) -> Claim | None:
        def write(db: sqlite3.Connection) -> Claim | None:
            now_s = self._clock()
            key = db.execute(
                "SELECT tenant, id FROM responses LEFT JOIN runs USING (tenant, id) "
                f"WHERE {_RUNNING} AND seen_s <= ? AND created_s > ? "
                "AND owner IS NOT ? ORDER BY seen_s LIMIT 1",
                (now_s - silent_s, now_s - self._keep_s, owner),
            ).fetchone()
            if key is None:
                return None
            db.execute(
                "INSERT INTO runs (tenant, id, owner, request, claims) VALUES (?, ?, ?, x'', 1) "
                "ON CONFLICT DO UPDATE SET owner = excluded.owner, claims = claims + 1",
                (*key, owner),
            )
            db.execute("UPDATE responses SET seen_s = ? WHERE tenant = ? AND id = ?", (now_s, *key))
            request, claims = db.execute(
                "SELECT request, claims FROM runs WHERE tenant = ? AND id = ?", key
            ).fetchone()
            stored = self._get(db, key)
            assert stored is not None
            return Claim(stored, request, _events(db, key, 0, -1), claims)

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


def _runs(db: sqlite3.Connection, key: Key, owner: str) -> bool:
    """Returns whether a response runs, at this owner if there is one."""
    row = db.execute(
        "SELECT owner FROM responses LEFT JOIN runs USING (tenant, id) "
        f"WHERE tenant = ? AND id = ? AND {_RUNNING}",
        key,
    ).fetchone()
    return row is not None and owner in ("", row[0])


def _add_events(db: sqlite3.Connection, key: Key, news: News) -> int | None:
    """Adds those that are new. Returns their size; None if events before them are missing."""
    if not news.events:
        return 0
    query = "SELECT coalesce(max(number) + 1, 0) FROM events WHERE tenant = ? AND id = ?"
    kept = db.execute(query, key).fetchone()[0]
    if kept < news.first:
        return None
    new = news.events[kept - news.first :]
    db.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?)",
        ((*key, number, event) for number, event in enumerate(new, kept)),
    )
    return sum(map(len, new))


def _events(db: sqlite3.Connection, key: Key, first: int, most: int) -> list[bytes]:
    query = (
        "SELECT event FROM events WHERE tenant = ? AND id = ? AND number >= ? "
        "ORDER BY number LIMIT ?"
    )
    return [event for (event,) in db.execute(query, (*key, first, most))]

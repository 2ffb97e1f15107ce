"""The usage ledger of one router.

The engines count tokens; the router asks them once a second for the counts of its requests, so that
entries are exact however a request ends, and nothing is done for it on the way of its chunks. Each
second the entries of requests that have ended are appended to a file, and what is in flight is
written beside it: a router that is killed loses what happened since then.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from serving.dispatch import RateLimiter
from serving.engine_protocol import USAGE_ID
from serving.ledger.entry import Entry, Snapshot, lines_of
from serving.ledger.folder import LedgerFolder
from serving.ledger.report import Column, Report
from serving.router.ledger.engine_counts import EngineCounts
from serving.router.ledger.ledger_file import LedgerFile
from serving.router.ledger.open_entry import Attempt, OpenEntry
from serving.router.replicas.model import Model
from serving.router.replicas.replica import Replica
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.request_record import RequestRecord

log = logging.getLogger(__name__)

PERIOD_S = 1.0
"""The longest time whose usage a killed router loses, beside what its event loop is late."""
GIVE_UP_S = 5.0
"""How long the entry of a request that has ended waits for an engine that does not answer."""
_IDLE_PERIOD_S = 5.0
"""How often a router without work shows that it is alive."""
_TIDY_PERIOD_S = 600.0
_CLOSE_S = 3.0
_MOST_UNWRITTEN = 200_000
"""Entries that are held while the disk takes none; the oldest go first."""
_AT_ONCE = 50
"""How many entries are made without a pause for the event loop."""


class Ledger:
    """Makes an entry of each request that was sent to a replica. Never fails a request."""

    def __init__(
        self,
        folder: Path,
        router: str,
        engine_token: str,
        keep_days: int,
        keep_entries_days: int,
        metrics: Metrics,
    ) -> None:
        """Raises OSError if the folder cannot be made or written to."""
        self.folder = LedgerFolder(folder)
        self.lost = 0
        """Entries that could not be written and were given up."""
        self._router = router
        self._header = b"%b: %b/" % (USAGE_ID, router.encode())
        self._keep_days = keep_days, keep_entries_days
        self._metrics = metrics
        metrics.ledger = self
        self._last = Snapshot(router, datetime.now(UTC))
        self._file = LedgerFile(folder, self._last)
        self._counts = EngineCounts(router, engine_token)
        self._numbers = itertools.count(1)
        self._open: dict[OpenEntry, None] = {}
        self._unwritten: list[Entry] = []
        self._tidied_s = float("-inf")
        self._failing = False
        self._is_closed = False
        self._one_at_a_time = asyncio.Lock()
        self._writing = ThreadPoolExecutor(1, "ledger")
        self._reading = ThreadPoolExecutor(1, "ledger-reports")

    @property
    def unwritten(self) -> int:
        """The number of final entries that are not on the disk yet."""
        return len(self._unwritten)

    @property
    def in_flight(self) -> int:
        """The number of requests whose entries are not final yet."""
        return len(self._open)

    # Requests

    def open(self, record: RequestRecord, model: Model, background: bool) -> OpenEntry:
        """Begins the entry of a request, which is kept once a replica is sent the request."""
        return OpenEntry(record, model, background)

    def sent(self, entry: OpenEntry, replica: Replica, carried_tokens: int | None) -> bytes:
        """Notes that the replica is sent the request: to continue an answer of which it is given
        `carried_tokens`, or, with None, to begin it. Returns the header for the engine."""
        number = next(self._numbers)
        attempt = Attempt(number, replica, replica.load.requests, carried_tokens or 0)
        if carried_tokens is None:
            entry.answering = len(entry.attempts)
        entry.attempts.append(attempt)
        self._open[entry] = None
        if entry.model.backend is not None:
            attempt.is_final = True  # another server reports no counts but in its answers
            return b""
        self._counts.await_(attempt)
        return b"%b%d\r\n" % (self._header, number)

    def not_taken(self, entry: OpenEntry) -> None:
        """Notes that the last replica has not begun with the request."""
        self._counts.forget([entry.attempts.pop()])
        entry.answering = min(entry.answering, max(len(entry.attempts) - 1, 0))
        if not entry.attempts:
            self._open.pop(entry, None)

    def end(self, entry: OpenEntry) -> None:
        """Notes that the request has ended; its record is complete."""
        entry.ended_at, entry.ended_s = datetime.now(UTC), time.monotonic()

    # What was used before

    async def restore(self, limiter: RateLimiter, tenants: Collection[str]) -> None:
        """Tells the limiter what these tenants have used, and all of each adapter, in the last 24
        hours, for which no other router may be up."""
        now, now_s = datetime.now(UTC), time.monotonic()
        try:
            used = await asyncio.get_running_loop().run_in_executor(
                self._reading, self.folder.used_since, now - timedelta(days=1), tenants
            )
        except OSError as error:
            log.error("the usage in %s cannot be read: %s", self.folder.path, error.strerror)
            return
        for user, at_s in sorted(used, key=lambda moment: moment[1]):
            requests, tokens = used[user, at_s]
            limiter.restore(user, requests, tokens, max(0.0, now.timestamp() - at_s), now_s)

    # Reports

    async def report(self, first: date, last: date, by: Sequence[Column]) -> Report:
        """Sums up the usage of all routers. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._reading, self.folder.report, first, last, datetime.now(UTC), by
        )

    # Writing

    async def run(self) -> None:
        """Writes once a second, until the ledger is closed, which ends it: if it is cancelled
        instead, what it is writing may be written twice."""
        while not self._is_closed:
            await asyncio.sleep(PERIOD_S)
            await self.write()
            if time.monotonic() - self._tidied_s > _TIDY_PERIOD_S and not self._is_closed:
                self._tidied_s = time.monotonic()
                await self._tidy()

    async def write(self) -> None:
        """Brings the ledger's files up to date."""
        async with self._one_at_a_time:
            if not self._is_closed:
                await self._settle()

    async def _settle(self) -> None:
        now = datetime.now(UTC)  # all that engines generated until now is in the counts
        await self._counts.fetch()
        give_up_s = time.monotonic() - GIVE_UP_S
        running = []
        for count, entry in enumerate(list(self._open)):
            if count % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if not entry.attempts:
                continue
            if entry.ended_at is None or not (entry.is_settled or entry.ended_s < give_up_s):
                running.append(entry.so_far(now))
                continue
            del self._open[entry]
            self._counts.forget(entry.attempts)
            final = entry.final()
            self._unwritten.append(final)
            self._metrics.used(final)
        await self._write(Snapshot(self._router, now, running))

    async def _write(self, snapshot: Snapshot) -> None:
        entries, now = list(self._unwritten), snapshot.at
        idle_s = (now - self._last.at).total_seconds()
        if not entries and snapshot.entries == self._last.entries == [] and idle_s < _IDLE_PERIOD_S:
            return
        loop = asyncio.get_running_loop()
        try:
            is_ours = await loop.run_in_executor(
                self._writing, self._file.append, now.date(), lines_of(entries)
            )
            if is_ours:
                del self._unwritten[: len(entries)]
                await loop.run_in_executor(self._writing, self._file.show, snapshot)
                self._last = snapshot
            else:
                self._forget({entry.id for entry in self._last.entries})
        except OSError as error:
            if not self._failing:
                log.error("usage cannot be written to %s: %s", self.folder.path, error.strerror)
            self._failing = True
            self._drop(len(self._unwritten) - _MOST_UNWRITTEN)
        else:
            self._failing = False

    def _drop(self, count: int) -> None:
        if count > 0:
            del self._unwritten[:count]
            self.lost += count

    def _forget(self, numbers: set[int]) -> None:
        """Forgets entries that another router has closed, as this one seemed dead."""
        log.warning("another router has closed %d entries of this one", len(numbers))
        self._unwritten = [entry for entry in self._unwritten if entry.id not in numbers]
        for entry in [one for one in self._open if one.attempts[0].number in numbers]:
            self._counts.forget(entry.attempts)
            del self._open[entry]

    async def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(
                self._reading, self.folder.tidy, datetime.now(UTC), *self._keep_days
            )
        except OSError as error:
            log.error("the ledger in %s cannot be tidied: %s", self.folder.path, error.strerror)

    async def close(self) -> None:
        """Writes what is left; to be called when no request is served any more."""
        give_up_s = time.monotonic() + _CLOSE_S
        await self.write()
        while self._open and time.monotonic() < give_up_s:
            await asyncio.sleep(0.1)
            await self.write()
        for entry in self._open:
            if entry.ended_at is None:
                self.end(entry)
            entry.ended_s = float("-inf")
        await self.write()
        self._is_closed = True
        if not self._unwritten:
            await asyncio.get_running_loop().run_in_executor(self._writing, self._file.close)
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

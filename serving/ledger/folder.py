"""The folder of the ledger, which several routers write and anyone may read.

- `2026-11-29.ROUTER.jsonl`: the entries that one router process has written on that day (UTC).
- `running.ROUTER.json`: what that router has in flight, replaced every second. It is gone once the
  router has stopped in order. An old one is of a router that was killed; another one adds what it
  had in flight to its entries.
- `usage-2026-11-29.jsonl` and `.csv`: the sums of a day that is over, made of its entries and made
  again when one of them is added.
- `gaps.jsonl`: the routers that were killed.
"""

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from serving.dispatch import adapter_key
from serving.ledger import report
from serving.ledger.entry import (
    NOT_DECODED,
    ROUTER_ENDED,
    Entry,
    Snapshot,
    lines_of,
    read_lines,
    read_snapshot,
)
from serving.ledger.report import COLUMNS, Column, Gap, Report, Row, Sums

ALIVE_S = 10
"""A router whose snapshot is older is taken for dead by reports."""
CLOSED_S = 60
"""A router whose snapshot is older is dead: what it had in flight becomes entries."""
SETTLED_S = 600
"""How long after midnight a day is over for all routers, whatever their clocks."""

Moment = tuple[str, int]
"""A tenant, and a second since 1970."""
Used = tuple[int, int]
"""Requests, and the tokens of their prompts and answers."""

_GAPS = "gaps.jsonl"

_row = msgspec.json.Decoder(Row).decode


def segment_name(router: str, day: date) -> str:
    return f"{day.isoformat()}.{router}.jsonl"


def snapshot_name(router: str) -> str:
    return f"running.{router}.json"


class _Segment:
    """The sums of a segment, as far as it was read."""

    def __init__(self) -> None:
        self.size = 0
        self.damaged = 0
        self.sums: Sums = {}


class LedgerFolder:
    """Reads the ledger. A segment is read on from where it was read to before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segments: dict[Path, _Segment] = {}

    def report(
        self, first: date, last: date, now: datetime, by: Iterable[Column] = COLUMNS
    ) -> Report:
        """Sums up the days from `first` to `last`. Raises OSError."""
        by = tuple(by)
        sums: Sums = {}
        damaged = 0
        summed = set()
        for day, path in self._daily():
            if first <= day <= last:
                summed.add(day)
                report.merge(sums, report.sums_of(map(_row, path.read_bytes().splitlines())))
        for day, path in self.segments():
            if first <= day <= last and day not in summed:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, so summed up
                    segment = self._read(day, path)
                    report.merge(sums, segment.sums)
                    damaged += segment.damaged
        running, gaps = 0, []
        for snapshot in self.snapshots():
            if (now - snapshot.at).total_seconds() <= ALIVE_S:
                running += len(snapshot.entries)
                continue
            day = snapshot.at.date()
            if first <= day <= last and day not in summed:
                lost = self._unwritten(snapshot)
                report.add(sums, day, lost.entries)
                gaps.append(Gap(snapshot.router, snapshot.at, len(lost.entries)))
        gaps += [gap for gap in self.closed() if first <= gap.at.date() <= last]
        gaps.sort(key=lambda gap: gap.at)
        rows = report.rows_of(sums, by)
        return Report(first.isoformat(), last.isoformat(), rows, running, gaps, damaged)

    def used_since(self, since: datetime, tenants: Collection[str]) -> dict[Moment, Used]:
        """Returns what requests of these tenants, and those of each adapter under its
        `adapter_key`, used that have ended since then, by the second of their ends. Those in flight
        at routers whose snapshots are left count, so no router may be up. Lines of batches, which
        no limit holds for, do not count. Raises OSError."""
        found: dict[Moment, Used] = {}
        for entry in self._entries_since(since):
            if entry.batch_id is not None:
                continue
            used_by = [entry.tenant] if entry.tenant in tenants else []
            if entry.adapter_version is not None:
                used_by.append(adapter_key(entry.model))
            for name in used_by:
                moment = name, int(entry.at.timestamp())
                requests, tokens = found.get(moment, (0, 0))
                tokens += entry.input_tokens + entry.output_tokens
                found[moment] = requests + 1, tokens
        return found

    def _entries_since(self, since: datetime) -> Iterator[Entry]:
        for day, path in self.segments():
            if day >= since.astimezone(UTC).date():
                entries, _, _ = read_lines(path.read_bytes())
                yield from (entry for entry in entries if entry.at >= since)
        for snapshot in self.snapshots():
            if snapshot.at >= since:
                yield from self._unwritten(snapshot).entries

    def tidy(self, now: datetime, keep_days: int, keep_entries_days: int) -> None:
        """Closes the entries of dead routers, sums up the days that are over, and deletes what is
        older than the number of days. Of several routers one does it. Raises OSError."""
        with self._alone() as is_alone:
            if not is_alone:
                return
            for snapshot in self.snapshots():
                if (now - snapshot.at).total_seconds() > CLOSED_S:
                    self._close(snapshot)
            over = (now - timedelta(seconds=SETTLED_S)).date()
            for day in sorted({day for day, _ in self.segments() if day < over}):
                self._sum_up(day)
            self._delete(self.segments(), over - timedelta(days=keep_entries_days))
            self._delete(self._daily(".*"), over - timedelta(days=keep_days))

    def segments(self) -> list[tuple[date, Path]]:
        return _dated(self.path.glob("????-??-??.*.jsonl"), 0)

    def snapshots(self) -> list[Snapshot]:
        found = []
        for path in sorted(self.path.glob("running.*.json")):
            with contextlib.suppress(FileNotFoundError, *NOT_DECODED):
                found.append(read_snapshot(path.read_bytes()))
        return found

    def _daily(self, suffix: str = ".jsonl") -> list[tuple[date, Path]]:
        return _dated(self.path.glob(f"usage-????-??-??{suffix}"), len("usage-"))

    def _read(self, day: date, path: Path) -> _Segment:
        segment = self._segments.setdefault(path, _Segment())
        with path.open("rb") as file:
            file.seek(segment.size)
            entries, size, damaged = read_lines(file.read())
        segment.size += size
        segment.damaged += damaged
        report.add(segment.sums, day, entries)
        return segment

    def _unwritten(self, snapshot: Snapshot) -> Snapshot:
        """Returns a dead router's snapshot without what it has written since."""
        written = set()
        for _, path in self.segments():
            if path.name.split(".", 1)[1] == f"{snapshot.router}.jsonl":
                written |= {entry.id for entry in read_lines(path.read_bytes())[0]}
        lost = [entry for entry in snapshot.entries if entry.id not in written]
        for entry in lost:
            entry.outcome = ROUTER_ENDED
        return Snapshot(snapshot.router, snapshot.at, lost)

    def _close(self, snapshot: Snapshot) -> None:
        """Adds what a dead router had in flight to its entries. It may be done again, as after a
        kill within: only what is not there yet is added."""
        lost = self._unwritten(snapshot)
        path = self.path / segment_name(snapshot.router, snapshot.at.date())
        if lost.entries:
            with path.open("ab") as file:
                file.truncate(path.read_bytes().rfind(b"\n") + 1)  # without a torn line
                file.write(lines_of(lost.entries))
                file.flush()
                os.fsync(file.fileno())
        gap = Gap(snapshot.router, snapshot.at, len(lost.entries))
        with (self.path / _GAPS).open("ab") as file:
            file.write(msgspec.json.encode(gap) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        (self.path / snapshot_name(snapshot.router)).unlink(missing_ok=True)

    def closed(self) -> list[Gap]:
        """Returns the routers whose entries were closed by others."""
        try:
            lines = (self.path / _GAPS).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found: dict[tuple[str, datetime], Gap] = {}
        for line in lines:
            with contextlib.suppress(*NOT_DECODED):
                gap = msgspec.json.decode(line, type=Gap)
                found.setdefault((gap.router, gap.at), gap)  # the first, if it was closed again
        return list(found.values())

    def _sum_up(self, day: date) -> None:
        done = self.path / f"usage-{day.isoformat()}.jsonl"
        segments = [path for of_day, path in self.segments() if of_day == day]
        newest_ns = max(path.stat().st_mtime_ns for path in segments)
        if done.exists() and done.stat().st_mtime_ns >= newest_ns:
            return
        sums: Sums = {}
        for path in segments:
            report.merge(sums, self._read(day, path).sums)
        rows = report.rows_of(sums)
        replace(done.with_suffix(".csv"), report.to_csv(rows).encode())
        replace(done, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        os.utime(done, ns=(newest_ns, newest_ns))  # so that what was added meanwhile is newer
        for path in segments:
            self._segments.pop(path, None)

    def _delete(self, files: list[tuple[date, Path]], before: date) -> None:
        for day, path in files:
            if day < before:
                path.unlink(missing_ok=True)
                self._segments.pop(path, None)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Holds the lock of the folder, if no one else does."""
        with (self.path / ".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True


def _dated(paths: Iterable[Path], begin: int) -> list[tuple[date, Path]]:
    found = []
    for path in sorted(paths):
        with contextlib.suppress(ValueError):
            found.append((date.fromisoformat(path.name[begin : begin + 10]), path))
    return found


def replace(path: Path, data: bytes) -> None:
    """Replaces a file: whoever reads it finds the old one or the new one, whole. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)

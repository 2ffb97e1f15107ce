"""The ledger's folder: what is read of routers that live, stopped in order, and were killed."""

import fcntl
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from serving.ledger.entry import Entry, Snapshot, encode, lines_of
from serving.ledger.folder import LedgerFolder, segment_name, snapshot_name
from serving.ledger.report import Row

NOW = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
TODAY, YESTERDAY = NOW.date(), date(2026, 11, 28)
LONG_AGO_S = 3600


def entry(number: int, output_tokens: int = 10, at: datetime = NOW, **fields: Any) -> Entry:
    return Entry(
        id=number,
        at=at,
        request_id=f"r{number}",
        tenant="a",
        model="m",
        output_tokens=output_tokens,
        **fields,
    )


def write(folder: Path, router: str, *entries: Entry, day: date = TODAY, torn: bytes = b"") -> Path:
    path = folder / segment_name(router, day)
    with path.open("ab") as file:
        file.write(lines_of(list(entries)) + torn)
    return path


def leave(folder: Path, router: str, *running: Entry, silent_s: float = LONG_AGO_S) -> Path:
    """Leaves a router's snapshot, as a kill does."""
    path = folder / snapshot_name(router)
    at = NOW - timedelta(seconds=silent_s)
    path.write_bytes(encode(Snapshot(router, at, list(running))))
    return path


def total(folder: LedgerFolder, first: date = TODAY, last: date = TODAY) -> Row:
    (row,) = folder.report(first, last, NOW, ()).rows
    return row


def tidy(folder: LedgerFolder, now: datetime = NOW, days: int = 400, entries: int = 7) -> None:
    folder.tidy(now, days, entries)


def test_the_entries_of_all_routers_count_together(tmp_path: Path) -> None:
    write(tmp_path, "r1", entry(1), entry(2))
    write(tmp_path, "r2", entry(1))
    assert total(LedgerFolder(tmp_path)).output_tokens == 30


def test_what_is_added_later_counts_once(tmp_path: Path) -> None:
    folder = LedgerFolder(tmp_path)
    write(tmp_path, "r1", entry(1), torn=b'{"id": 2, "at')
    assert total(folder).output_tokens == 10
    with (tmp_path / segment_name("r1", TODAY)).open("ab") as file:
        rest = lines_of([entry(2)]).partition(b'"at')[2]
        file.write(rest)
    write(tmp_path, "r1", entry(3))
    report = folder.report(TODAY, TODAY, NOW, ())
    assert (report.rows[0].requests, report.damaged_lines) == (3, 0)
    assert folder.report(TODAY, TODAY, NOW, ()) == report


def test_what_a_living_router_has_in_flight_does_not_count_yet(tmp_path: Path) -> None:
    write(tmp_path, "r1", entry(1))
    leave(tmp_path, "r1", entry(2), entry(3), silent_s=1)
    report = LedgerFolder(tmp_path).report(TODAY, TODAY, NOW, ())
    assert (report.rows[0].requests, report.running, report.gaps) == (1, 2, [])


def test_a_killed_router_counts_as_of_its_last_sign_of_life(tmp_path: Path) -> None:
    """Entry 2 ended between the last two writes, so that it is in both files."""
    write(tmp_path, "r1", entry(1), entry(2, 12))
    leave(tmp_path, "r1", entry(2, 11), entry(3, 5))
    folder = LedgerFolder(tmp_path)
    before = folder.report(TODAY, TODAY, NOW, ())
    (row,), (gap,) = before.rows, before.gaps
    assert (row.requests, row.output_tokens, row.incomplete) == (3, 10 + 12 + 5, 1)
    assert (gap.router, gap.requests) == ("r1", 1)
    assert gap.at == NOW - timedelta(seconds=LONG_AGO_S)
    tidy(folder)
    assert not folder.snapshots()
    assert folder.report(TODAY, TODAY, NOW, ()) == before
    assert LedgerFolder(tmp_path).report(TODAY, TODAY, NOW, ()) == before


def test_closing_a_dead_router_twice_changes_nothing(tmp_path: Path) -> None:
    """A router may be killed while it closes another one."""
    write(tmp_path, "r1", entry(1), torn=b'{"id": 2,')
    snapshot = leave(tmp_path, "r1", entry(3))
    content = snapshot.read_bytes()
    folder = LedgerFolder(tmp_path)
    tidy(folder)
    closed = folder.report(TODAY, TODAY, NOW, ())
    assert (closed.rows[0].requests, closed.damaged_lines) == (2, 0)
    snapshot.write_bytes(content)
    tidy(folder)
    assert folder.report(TODAY, TODAY, NOW, ()) == closed


def test_a_router_that_was_silent_for_a_moment_is_not_closed(tmp_path: Path) -> None:
    snapshot = leave(tmp_path, "r1", entry(1), silent_s=30)
    tidy(LedgerFolder(tmp_path))
    assert snapshot.exists()


def test_a_day_that_is_over_is_summed_up_and_keeps_its_sums(tmp_path: Path) -> None:
    folder = LedgerFolder(tmp_path)
    write(tmp_path, "r1", entry(1), day=YESTERDAY)
    write(tmp_path, "r2", entry(1), entry(2), day=YESTERDAY)
    write(tmp_path, "r2", entry(3))
    before = folder.report(YESTERDAY, TODAY, NOW).rows
    tidy(folder)
    assert (
        (tmp_path / "usage-2026-11-28.csv").read_text().splitlines()[1].startswith("2026-11-28,a,")
    )
    assert not (tmp_path / "usage-2026-11-29.jsonl").exists()
    assert folder.report(YESTERDAY, TODAY, NOW).rows == before
    tidy(folder, NOW + timedelta(days=7))
    assert [day for day, _ in folder.segments()] == [TODAY]
    assert LedgerFolder(tmp_path).report(YESTERDAY, TODAY, NOW).rows == before
    tidy(folder, NOW + timedelta(days=402))
    assert folder.report(YESTERDAY, YESTERDAY, NOW).rows == []
    assert not list(tmp_path.glob("usage-2026-11-28*"))


def test_entries_that_come_after_their_day_was_summed_up_are_added(tmp_path: Path) -> None:
    folder = LedgerFolder(tmp_path)
    write(tmp_path, "r1", entry(1), day=YESTERDAY)
    tidy(folder)
    write(tmp_path, "r1", entry(2), day=YESTERDAY)
    tidy(folder)
    assert total(folder, YESTERDAY, YESTERDAY).requests == 2


def test_a_day_is_not_summed_up_at_midnight(tmp_path: Path) -> None:
    write(tmp_path, "r1", entry(1))
    midnight = datetime(2026, 11, 30, tzinfo=UTC)
    folder = LedgerFolder(tmp_path)
    tidy(folder, midnight + timedelta(seconds=30))
    assert not list(tmp_path.glob("usage-*"))
    tidy(folder, midnight + timedelta(hours=1))
    assert list(tmp_path.glob("usage-*"))


def test_one_of_several_routers_tidies(tmp_path: Path) -> None:
    leave(tmp_path, "r1", entry(1))
    with (tmp_path / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tidy(LedgerFolder(tmp_path))
        assert LedgerFolder(tmp_path).snapshots()
    tidy(LedgerFolder(tmp_path))
    assert not LedgerFolder(tmp_path).snapshots()


def test_what_was_used_since_a_time_by_the_second(tmp_path: Path) -> None:
    day_ago, earlier = NOW - timedelta(days=1), NOW - timedelta(days=1, seconds=1)
    write(tmp_path, "r1", entry(1, at=day_ago), entry(2, at=earlier), day=YESTERDAY)
    write(tmp_path, "r1", entry(3, input_tokens=5), entry(4), entry(5, batch_id="batch_1"))
    leave(tmp_path, "r2", entry(1, 3), silent_s=0)
    found = LedgerFolder(tmp_path).used_since(day_ago, ["a"])
    now_s = int(NOW.timestamp())
    assert found == {("a", now_s - 24 * 3600): (1, 10), ("a", now_s): (3, 28)}
    assert LedgerFolder(tmp_path).used_since(day_ago, ["b"]) == {}


def test_what_all_tenants_have_used_of_an_adapter(tmp_path: Path) -> None:
    of_adapter: dict[str, Any] = {"adapter_version": "0" * 64, "input_tokens": 5}
    write(tmp_path, "r1", entry(1), entry(2, **of_adapter), entry(3, **of_adapter))
    now_s = int(NOW.timestamp())
    used = LedgerFolder(tmp_path).used_since(NOW - timedelta(days=1), ["b"])
    assert used == {("adapter/m", now_s): (2, 30)}


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[]\n", b"\n", b'{"id": 1}\n'])
def test_a_damaged_line_costs_no_other(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, "r1", entry(1), torn=line)
    write(tmp_path, "r1", entry(2))
    report = LedgerFolder(tmp_path).report(TODAY, TODAY, NOW, ())
    assert (report.rows[0].requests, report.damaged_lines) == (2, 1)

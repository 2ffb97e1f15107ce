"""Sums of the ledger by day, tenant, API key and model, as rows and as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Literal

import msgspec

from serving.ledger.entry import ROUTER_ENDED, Entry

Column = Literal["day", "tenant", "key", "model"]
COLUMNS: tuple[Column, ...] = ("day", "tenant", "key", "model")
"""By what usage can be summed."""


class Usage(msgspec.Struct):
    """Sums over requests; fields as those of `Entry`."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    repeated_input_tokens: int = 0
    wasted_output_tokens: int = 0
    gpu_s: float = 0.0
    incomplete: int = 0
    """Requests whose router ended before they did, with the counts known by then."""
    estimated: int = 0
    """Requests with a count that no engine reported."""

    def add(self, entry: Entry) -> None:
        self.requests += 1
        self.input_tokens += entry.input_tokens
        self.cached_tokens += entry.cached_tokens
        self.output_tokens += entry.output_tokens
        self.repeated_input_tokens += entry.repeated_input_tokens
        self.wasted_output_tokens += entry.wasted_output_tokens
        self.gpu_s += entry.gpu_s
        self.incomplete += entry.outcome == ROUTER_ENDED
        self.estimated += entry.estimated

    def merge(self, other: "Usage") -> None:
        for name in Usage.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Row(Usage, kw_only=True):
    """The usage of one tenant, key and model on one day (UTC). What a report is not summed by is
    None, as is the key of requests without one."""

    day: str | None = None
    tenant: str | None = None
    key: str | None = None
    model: str | None = None


Key = tuple[str | None, str | None, str | None, str | None]
"""The values of `COLUMNS`."""

Sums = dict[Key, Usage]


class Gap(msgspec.Struct, frozen=True):
    """A router that was killed. Its requests in flight are counted as of `at`; what it did after
    that, for a second at most, is missing."""

    router: str
    at: datetime
    requests: int
    """How many were in flight."""


class Report(msgspec.Struct):
    first: str
    """The first day, as YYYY-MM-DD in UTC."""
    last: str
    rows: list[Row]
    running: int = 0
    """Requests in flight, which are counted when they end."""
    gaps: list[Gap] = []
    damaged_lines: int = 0
    """Lines that cannot be read, as after the crash of a machine."""


def add(sums: Sums, day: date, entries: Iterable[Entry]) -> None:
    """Adds entries of that day."""
    text = day.isoformat()
    for entry in entries:
        key = text, entry.tenant, entry.key_id, entry.model
        usage = sums.get(key)
        if usage is None:
            usage = sums[key] = Usage()
        usage.add(entry)


def merge(sums: Sums, others: Mapping[Key, Usage]) -> None:
    for key, usage in others.items():
        sums.setdefault(key, Usage()).merge(usage)


def rows_of(sums: Mapping[Key, Usage], by: Iterable[Column] = COLUMNS) -> list[Row]:
    """Sums up what differs in other columns than `by`; the rows are sorted by them."""
    kept = [column in by for column in COLUMNS]
    grouped: Sums = {}
    for key, usage in sums.items():
        day, tenant, of_key, model = (
            part if keep else None for part, keep in zip(key, kept, strict=True)
        )
        grouped.setdefault((day, tenant, of_key, model), Usage()).merge(usage)
    ordered = sorted(grouped, key=lambda key: [part or "" for part in key])
    return [_row(key, grouped[key]) for key in ordered]


def _row(key: Key, usage: Usage) -> Row:
    day, tenant, of_key, model = key
    counts = msgspec.structs.asdict(usage)
    return Row(**counts, day=day, tenant=tenant, key=of_key, model=model)


def sums_of(rows: Iterable[Row]) -> Sums:
    names = Usage.__struct_fields__
    return {
        (row.day, row.tenant, row.key, row.model): Usage(**{n: getattr(row, n) for n in names})
        for row in rows
    }


def to_csv(rows: Iterable[Row], by: Iterable[Column] = COLUMNS) -> str:
    """Writes rows with a header line, with the columns `by` before the counts."""
    kept = [column for column in COLUMNS if column in by]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*kept, *Usage.__struct_fields__])
    for row in rows:
        counts = [getattr(row, name) for name in Usage.__struct_fields__]
        texts = [value if (value := getattr(row, column)) is not None else "" for column in kept]
        writer.writerow([*texts, *(round(c, 3) if isinstance(c, float) else c for c in counts)])
    return text.getvalue()

"""The outcome of each operation, as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from tests.bench.relay_report import new_table
from tests.real_cluster.pod import Outcome

_COLUMNS = (
    "streams: in flight when it happened; each client asks again as soon as it is answered.\n"
    "answers: of the whole operation, each compared with the answer before it.\n"
    "dropped: no answer, or one that ended early; truncated: other than the answer before, yet it "
    "looks complete; refused: 429 with a Retry-After.\n"
    "silence: the longest time in which a client got no text, connecting included.\n"
    "time: until it had happened (the head was back, the pod had ended, the rollout was done); "
    "in brackets the promise."
)


@dataclass(frozen=True)
class Row:
    """The outcome of an operation, or of a step of the start."""

    name: str
    took_s: float | None = None
    within_s: float | None = None
    outcome: Outcome | None = None
    lacks: str = ""
    """What the cluster lacks for it, so that it was skipped."""
    faults: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        late = self.took_s is not None and self.within_s is not None
        late = late and self.took_s > self.within_s  # type: ignore[operator]
        return not (late or self.faults)


def show(console: Console, where: str, rows: Sequence[Row]) -> None:
    columns = ("streams", "answers", "dropped", "truncated", "refused", "silence s", "time s", "")
    table = new_table(f"The service on {where}", "operation", *columns)
    for row in rows:
        if row.lacks:
            table.add_row(row.name, *[""] * 7, f"skipped: needs {row.lacks}")
            continue
        cells = [""] * 6
        if row.outcome is not None:
            seen = row.outcome
            counts = (seen.in_flight, seen.answers, seen.dropped, seen.truncated, seen.refused)
            cells = [*map(str, counts), f"{seen.silence_s:.1f}"]
        took = "" if row.took_s is None else f"{row.took_s:.0f}"
        promise = "" if row.within_s is None else f" ({row.within_s:.0f})"
        table.add_row(row.name, *cells, took + promise, "" if row.good else "✗")
    console.print(table)
    console.print(_COLUMNS, highlight=False, markup=False)
    for row in rows:
        for fault in row.faults:
            console.print(f"{row.name}: {fault}", highlight=False, markup=False, style="red")

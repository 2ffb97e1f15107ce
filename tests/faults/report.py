"""The fault suite's rows as a table."""

from collections.abc import Sequence

from rich.console import Console

from tests.bench.relay_report import machine, new_table
from tests.faults.suite import Row

_COLUMNS = (
    "streams: in flight when it happened; each client asks again as soon as it is answered.\n"
    "answers: of the whole run, streamed or not, each compared with the undisturbed one.\n"
    "dropped: no answer, or an error status that is not a 429 with a Retry-After.\n"
    "truncated: other than the undisturbed answer, yet it looks complete.\n"
    "broken: begun, and ended visibly: with the typed error event or the connection's break.\n"
    "continued: streams that went on from another replica, equal to the undisturbed ones.\n"
    "retried: answers whose head says that another replica failed them before the first byte.\n"
    "refused: 429 with a Retry-After.\n"
    "added p99: of the longest gap between two chunks of a stream, less the undisturbed run's.\n"
    "Of a router's death the broken ones are those whose connection it held; elsewhere none may be."
)


def show(console: Console, engine: str, rows: Sequence[Row]) -> None:
    for name, fact in machine().items():
        console.print(f"{name}: {fact}", highlight=False, markup=False)
    table = new_table(
        f"Faults and changes under load, {engine} engines",
        "event",
        "streams",
        "answers",
        "dropped",
        "truncated",
        "broken",
        "continued",
        "retried",
        "refused",
        "added\np99 ms",
        "",
    )
    baseline_s = rows[0].p99_gap_s
    for row in rows:
        table.add_row(
            row.event,
            *map(str, row.counts().values()),
            f"{1e3 * (row.p99_gap_s - baseline_s):.0f}",
            "" if row.lossless else "✗",
        )
    console.print(table)
    console.print(_COLUMNS, highlight=False, markup=False)
    for row in rows:
        for fault in row.faults:
            console.print(fault, highlight=False, markup=False, style="red")

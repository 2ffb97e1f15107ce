"""The table of the scaling benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from tests.bench.relay_report import new_table


@dataclass(frozen=True, slots=True)
class Row:
    """A policy with one value of its `setting`. `worst_minute` is the smallest share of good
    requests of any minute. A scale event is a decision that changes the number of replicas."""

    setting: float
    good_share: float
    gpu_hours: float
    scale_events: int
    worst_minute: float
    replicas_most: int


def show(console: Console, title: str, rows: Mapping[str, Row], bound: str) -> None:
    """A table of a load, by policy, with the ratio of GPU-hours to those of `bound` if it is
    there."""
    table = new_table(
        title,
        "",
        *("good, %", "GPU-hours", f"/ {bound}", "scale events", "worst minute, %"),
        *("most replicas", "setting"),
    )
    for policy, row in rows.items():
        ratio = f"{row.gpu_hours / rows[bound].gpu_hours:.2f}" if bound in rows else ""
        table.add_row(
            policy,
            f"{100 * row.good_share:.2f}",
            f"{row.gpu_hours:.1f}",
            ratio,
            str(row.scale_events),
            f"{100 * row.worst_minute:.0f}",
            str(row.replicas_most),
            f"{row.setting:g}",
        )
    console.print(table)

"""Line plots over time as SVG, to be part of an HTML page."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_STYLE: Any = {"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "mistral-serve"}
"""Settings with which text stays text, and equal plots get equal ids, which are random by
default."""
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#9333ea")
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Series:
    """A line of points in the order of time, in seconds. A value of None interrupts the line, and a
    point alone is a dot. With `steps` a value holds until the next point."""

    name: str
    points: Sequence[tuple[float, float | None]]
    steps: bool = False


def line_plot(
    title: str, series: Sequence[Series], unit: str = "", limit: float | None = None
) -> str:
    """Returns an SVG element. `limit` is drawn as a dashed line; the value axis begins at 0."""
    seconds = max((time for one in series for time, _ in one.points), default=0.0) or 1.0
    time_unit, unit_s = next(u for u in _TIME_UNITS if seconds >= u[2])[:2]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 2.2), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left", fontweight="bold")
        for one, colour in zip(series, _COLOURS, strict=False):
            axes.plot(
                [time / unit_s for time, _ in one.points],
                [math.nan if value is None else value for _, value in one.points],
                label=one.name,
                color=colour,
                drawstyle="steps-post" if one.steps else "default",
                linewidth=1.3,
                marker="." if any(value is None for _, value in one.points) else None,
                markersize=2,
            )
        if limit is not None:
            axes.axhline(limit, color="#9ca3af", linestyle="--", linewidth=1)
        axes.set_xlim(0, seconds / unit_s)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 3, 5, 6, 10]))
        axes.xaxis.set_major_formatter(f"{{x:g}} {time_unit}")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(f"{{x:g}}{unit}")
        axes.grid(axis="y", color="#e5e7eb")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if series:
            axes.legend(
                loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, handlelength=1
            )
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata=_NO_METADATA)
    text = svg.getvalue()
    return text[text.index("<svg") :].rstrip()


_TIME_UNITS = (("h", 3600, 3 * 3600), ("min", 60, 3 * 60), ("s", 1, 0))
"""A unit of time: its name, its length in seconds, and the shortest span that it labels."""

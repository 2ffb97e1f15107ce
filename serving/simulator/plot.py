"""Line plots as SVG, to stand in an HTML page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 26
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#9333ea")
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """Points in the order of x; the line is broken where y is None. `steps`: y holds until the
    next point.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    steps: bool = False


def line_plot(
    title: str, series: Sequence[Series], unit: str = "", limit: float | None = None
) -> str:
    """An SVG element over time in seconds. `limit` is drawn as a dashed line."""
    seen = [y for one in series for _, y in one.points if y is not None]
    if limit is not None and seen:
        seen.append(limit)
    times = [x for one in series for x, _ in one.points]
    x_most = max(times, default=0.0) or 1.0
    y_step = _nice(max(seen, default=0.0) / _TICKS)
    y_most = max(math.ceil(max(seen, default=0.0) / y_step - 1e-9), 1) * y_step

    def x_of(x: float) -> float:
        return _LEFT + x / x_most * (_WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        return _HEIGHT - _BOTTOM - y / y_most * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text x="{_LEFT}" y="14" class="title">{escape(title)}</text>',
    ]
    for tick in range(round(y_most / y_step) + 1):
        y = y_of(tick * y_step)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{tick * y_step:g}{unit}"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="y">{escape(label)}</text>')
    x_step, x_unit, x_scale = _time_axis(x_most)
    for tick in range(int(x_most / x_step + 1e-9) + 1):
        label = f"{tick * x_step / x_scale:g} {x_unit}"
        x = x_of(tick * x_step)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" class="x">{label}</text>')
    if limit is not None:
        y = y_of(limit)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>'
        )
    legend = _WIDTH - _RIGHT
    for number, one in reversed(list(enumerate(series))):
        colour = _COLOURS[number % len(_COLOURS)]
        path = _path([(x_of(x), None if y is None else y_of(y)) for x, y in one.points], one.steps)
        parts.append(f'<path d="{path}" stroke="{colour}"/>')
        parts.append(f'<text x="{legend}" y="14" class="legend" fill="{colour}">{one.name}</text>')
        legend -= 8 * len(one.name) + 12
    parts.append("</svg>")
    return "".join(parts)


def _path(points: Sequence[tuple[float, float | None]], steps: bool) -> str:
    parts: list[str] = []
    drawn = False
    for x, y in points:
        if y is None:
            drawn = False
            continue
        if not drawn:
            parts.append(f"M{x:.1f} {y:.1f}h0")
        elif steps:
            parts.append(f"H{x:.1f}V{y:.1f}")
        else:
            parts.append(f"L{x:.1f} {y:.1f}")
        drawn = True
    return "".join(parts)


def _nice(step: float) -> float:
    """1, 2 or 5 times a power of ten, at least `step`."""
    if step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= step * (1 - 1e-9))


def _time_axis(most_s: float) -> tuple[float, str, float]:
    """Seconds between ticks, the unit of their labels, and its seconds."""
    for step_s in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400):
        if most_s / step_s <= 8:
            break
    if step_s < 60:
        return step_s, "s", 1
    return (step_s, "min", 60) if step_s < 3600 else (step_s, "h", 3600)

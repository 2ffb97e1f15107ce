"""`python -m dashboards.generate.plan FOLDER`: draws the grid of each dashboard as an SVG
picture in the size of a wall screen.
"""

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

COLUMNS = 24
WIDTH_PX = 1920
UNIT_PX, GAP_PX = 30, 8
"""Grafana's unit of height and its gap between panels."""
CHARACTER_PX = 7.7
"""The average width of a character in a panel's title."""
ICONS_PX = 44
"""The width of the icons beside a title: the description's and the menu."""

_COLORS = {"stat": "#dcefe0", "timeseries": "#e4ecf7", "table": "#f3eee0", "row": "none"}


def rectangle(panel: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels."""
    grid = panel["gridPos"]
    column_px = (WIDTH_PX - GAP_PX) / COLUMNS
    return (
        GAP_PX + grid["x"] * column_px,
        GAP_PX + grid["y"] * (UNIT_PX + GAP_PX),
        grid["w"] * column_px - GAP_PX,
        grid["h"] * (UNIT_PX + GAP_PX) - GAP_PX,
    )


def title_px(title: str) -> float:
    return len(title) * CHARACTER_PX


def svg(dashboard: dict[str, Any]) -> str:
    panels = dashboard["panels"]
    height = max(top + tall for _, top, _, tall in map(rectangle, panels)) + GAP_PX
    drawn = "\n".join(_panel(panel) for panel in panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height:.0f}" '
        'font-family="Inter, DejaVu Sans, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{drawn}\n</svg>\n'
    )


def _panel(panel: dict[str, Any]) -> str:
    left, top, width, height = rectangle(panel)
    kind = panel["type"]
    title = _text(left + 10, top + 20, 14, panel["title"], "bold" if kind == "row" else "500")
    if kind == "row":
        return title
    defaults = panel["fieldConfig"]["defaults"]
    box = (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3" '
        f'fill="{_COLORS.get(kind, "#efe6f3")}" stroke="#999"/>'
    )
    facts = [
        f"{kind}, {defaults['unit']}; empty: {defaults['noValue']}",
        *(_threshold(step) for step in defaults["thresholds"]["steps"][1:]),
        *(
            target["legendFormat"].replace("__auto", "")
            for target in panel["targets"]
            if target["legendFormat"] != "__auto"
        ),
    ]
    lines = [
        _text(left + 10, top + 44 + 17 * index, 12, fact, "normal")
        for index, fact in enumerate(facts)
    ]
    return "\n".join([box, title, *lines])


def _threshold(step: dict[str, Any]) -> str:
    return f"from {step['value']:g}: {step['color']}"


def _text(x: float, y: float, size: int, text: str, weight: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )


def main() -> None:
    folder = Path(sys.argv[1])
    for path in sorted(Path(__file__).parents[1].glob("*.json")):
        plan = folder / f"{path.stem}.svg"
        plan.write_text(svg(json.loads(path.read_text())))
        print(f"wrote {plan}")


if __name__ == "__main__":
    main()

"""Panels, of the few kinds that the dashboards need, in Grafana's JSON (11 and newer)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Thresholds = Sequence[tuple[float, str]]
"""From which value on which colour. Below the first it is green."""


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A stat (the value now, its colour behind it), unless it is a subclass."""

    title: str
    means: str
    """What it shows."""
    act: str
    """What to do when it looks wrong."""
    queries: Sequence[Query]
    unit: str
    """As Grafana names it."""
    width: int
    """Of 24 columns."""
    empty: str = "No traffic"
    """What is to be read where there is no data."""
    thresholds: Thresholds = ()
    below: str = "green"
    """The colour below the first threshold."""
    decimals: int | None = None
    values: Sequence[tuple[float, str, str]] = ()
    """A text and a colour in place of a number."""

    def json(self, panel_id: int, x: int, y: int, height: int) -> dict[str, Any]:
        return {
            "id": panel_id,
            "type": self._type(),
            "title": self.title,
            "description": f"{self.means}\n\n**When it looks wrong:** {self.act}",
            "datasource": DATASOURCE,
            "gridPos": {"h": height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
            "targets": [self._target(i, query) for i, query in enumerate(self.queries)],
        }

    def _type(self) -> str:
        return "stat"

    def _options(self) -> dict[str, Any]:
        return {
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto" if any(query.legend for query in self.queries) else "value",
            "wideLayout": True,
        }

    def _instant(self) -> bool:
        return True

    def _custom(self) -> dict[str, Any]:
        return {}

    def _defaults(self) -> dict[str, Any]:
        steps = [(None, self.below), *self.thresholds]
        nan = {"type": "special", "options": {"match": "nan", "result": {"text": self.empty}}}
        texts = {
            f"{value:g}": {"text": text, "color": color, "index": index}
            for index, (value, text, color) in enumerate(self.values)
        }
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "noValue": self.empty,
            "color": {"mode": self._color_mode()},
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": color} for value, color in steps],
            },
            "mappings": [nan, *([{"type": "value", "options": texts}] if texts else [])],
            "custom": self._custom(),
        }
        return defaults if self.decimals is None else {**defaults, "decimals": self.decimals}

    def _color_mode(self) -> str:
        return "thresholds"

    def _target(self, index: int, query: Query) -> dict[str, Any]:
        return {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": self._instant(),
            "range": not self._instant(),
        }


@dataclass(frozen=True, kw_only=True)
class Graph(Panel):
    """Lines in time. Thresholds are drawn where there are any."""

    stacked: bool = False
    max: float | None = None

    def _type(self) -> str:
        return "timeseries"

    def _instant(self) -> bool:
        return False

    def _color_mode(self) -> str:
        return "palette-classic"

    def _defaults(self) -> dict[str, Any]:
        defaults = {**super()._defaults(), "min": 0}
        return defaults if self.max is None else {**defaults, "max": self.max}

    def _custom(self) -> dict[str, Any]:
        return {
            "drawStyle": "line",
            "lineWidth": 1 if self.stacked else 2,
            "fillOpacity": 40 if self.stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if self.thresholds else "off"},
        }

    def _options(self) -> dict[str, Any]:
        return {
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


@dataclass(frozen=True, kw_only=True)
class Timeline(Panel):
    """States in time: `values` says what the numbers are."""

    def _type(self) -> str:
        return "state-timeline"

    def _instant(self) -> bool:
        return False

    def _custom(self) -> dict[str, Any]:
        return {"lineWidth": 0, "fillOpacity": 80, "spanNulls": False}

    def _options(self) -> dict[str, Any]:
        return {
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        }


@dataclass(frozen=True, kw_only=True)
class Bars(Panel):
    """The value of each now, the longest bar first."""

    mode: Literal["gradient", "basic"] = "gradient"

    def _type(self) -> str:
        return "bargauge"

    def _defaults(self) -> dict[str, Any]:
        return {**super()._defaults(), "min": 0}

    def _options(self) -> dict[str, Any]:
        return {
            "displayMode": self.mode,
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "valueMode": "color",
            "namePlacement": "auto",
            "sizing": "auto",
        }


@dataclass(frozen=True, kw_only=True)
class Table(Panel):
    """Labels as columns, and a column for the value of each query under its legend."""

    hidden: Sequence[str] = ()
    """Labels that are not shown."""

    def _type(self) -> str:
        return "table"

    def _custom(self) -> dict[str, Any]:
        return {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False}

    def _options(self) -> dict[str, Any]:
        return {"cellHeight": "sm", "showHeader": True, "footer": {"show": False}}

    def _target(self, index: int, query: Query) -> dict[str, Any]:
        return {**super()._target(index, query), "format": "table"}

    def json(self, panel_id: int, x: int, y: int, height: int) -> dict[str, Any]:
        refs = [chr(ord("A") + index) for index in range(len(self.queries))]
        names = {"Value": self.queries[0].legend} | {
            f"Value #{ref}": query.legend for ref, query in zip(refs, self.queries, strict=True)
        }
        hidden = dict.fromkeys(["Time", *self.hidden], True)
        organize = {"excludeByName": hidden, "indexByName": {}, "renameByName": names}
        return {
            **super().json(panel_id, x, y, height),
            "transformations": [
                {"id": "merge", "options": {}},
                {"id": "organize", "options": organize},
            ],
        }

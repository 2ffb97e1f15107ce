"""Dashboards: rows of panels below variables, with the annotations and links that all share."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType

from dashboards.generate.annotations import ANNOTATIONS
from dashboards.generate.panel import Panel
from dashboards.generate.variables import PROMETHEUS, Variable

TAG = "mistral-serve"


class Row(NamedTuple):
    title: str
    height: int
    """The height of each of its panels, in grid units of 30 px with gaps of 8 px."""
    panels: Sequence[Panel]


def dashboard(
    name: str, title: str, description: str, variables: Sequence[Variable], rows: Sequence[Row]
) -> dict[str, Any]:
    """The JSON document that Grafana 11 and newer reads; its uid is `mistral-` and `name`."""
    links = (
        builders.DashboardLink("Dashboards")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .icon("external link")
        .include_vars(True)
        .keep_time(True)
    )
    builder = (
        builders.Dashboard(f"Mistral / {title}")
        .uid(f"mistral-{name}")
        .description(description)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-3h", "now")
        .link(links)
        .variables([PROMETHEUS, *variables])
    )
    for row in rows:
        builder.with_row(builders.Row(row.title))
        for panel in row.panels:
            builder.with_panel(panel.height(row.height))
    built = builder.build()
    for number, panel_or_row in enumerate(built.panels or (), start=1):
        panel_or_row.id_val = number
    document: dict[str, Any] = json.loads(json.dumps(built, cls=JSONEncoder))
    return document | {"annotations": {"list": ANNOTATIONS}}

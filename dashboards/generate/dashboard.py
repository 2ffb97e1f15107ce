"""Dashboards: rows of panels, what can be chosen above them, and what they share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.generate.panel import DATASOURCE, Panel

TAG = "mistral-serve"
COLUMNS = 24
SCHEMA_VERSION = 39
"""Of Grafana 11. Newer ones take it over as it is."""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    height: int
    """Of each of its panels, in grid units of 30 px and gaps of 8."""
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """Of the values of a label. "All" takes series without the label too."""

    name: str
    label: str
    series: str


NAMESPACE = Variable("namespace", "Namespace", "mistral_serve_requests_total")
MODEL = Variable("model", "Model", 'mistral_serve_available_replicas{namespace=~"$namespace"}')
REPLICA = Variable(
    "replica", "Replica", 'mistral_serve_booked_tokens{namespace=~"$namespace",model=~"$model"}'
)
TENANT = Variable(
    "tenant", "Tenant", 'mistral_serve_tenant_requests_total{namespace=~"$namespace"}'
)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that a reader types in."""

    name: str
    label: str
    default: str


PRICE = Constant("usd_per_gpu_hour", "USD a GPU-hour", "2.50")


@dataclass(frozen=True, slots=True)
class Dashboard:
    name: str
    """Of its file, and after `mistral-` its uid."""
    title: str
    description: str
    variables: Sequence[Variable | Constant]
    rows: Sequence[Row]

    @property
    def uid(self) -> str:
        return f"mistral-{self.name}"

    def json(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": f"Mistral / {self.title}",
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timezone": "browser",
            "fiscalYearStartMonth": 0,
            "links": [_others()],
            "annotations": {"list": _annotations()},
            "templating": {"list": [_datasource(), *map(_variable, self.variables)]},
            "panels": list(self._panels()),
        }

    def _panels(self) -> Iterator[dict[str, Any]]:
        y = panel_id = 0
        for row in self.rows:
            panel_id += 1
            yield {
                "id": panel_id,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
                "panels": [],
            }
            y += 1
            x = 0
            for panel in row.panels:
                panel_id += 1
                yield panel.json(panel_id, x, y, row.height)
                x += panel.width
            y += row.height


def _others() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


_CHOSEN = 'namespace=~"$namespace"'
_EVENTS = (
    (
        "Rollouts",
        "blue",
        # 3: UPDATING.
        f"max by (deployment) (ray_serve_deployment_status{{{_CHOSEN}}}) == 3\n"
        "or max by (name) (kuberay_service_condition_upgrade_in_progress"
        f'{{{_CHOSEN},condition="true"}}) == 1',
        "Rollout {{deployment}}{{name}}",
    ),
    (
        "Scaling",
        "purple",
        f"max by (model) (ray_mistral_serve_autoscaling_replicas{{{_CHOSEN}}})\n"
        f"!= max by (model) (ray_mistral_serve_autoscaling_replicas{{{_CHOSEN}}} offset 1m)",
        "{{model}} is scaled",
    ),
    (
        "Replicas come and go",
        "yellow",
        f"max by (model) (mistral_serve_available_replicas{{{_CHOSEN}}})\n"
        f"!= max by (model) (mistral_serve_available_replicas{{{_CHOSEN}}} offset 1m)",
        "{{model}} has other replicas",
    ),
    (
        "Alerts",
        "red",
        'ALERTS{alertstate="firing",service="mistral-serve",severity="critical"}',
        "{{alertname}} {{model}}",
    ),
)


def _annotations() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": color,
            "expr": expr,
            "step": "60s",
            "titleFormat": title,
            "textFormat": "",
            "tagKeys": "",
            "useValueForTime": False,
        }
        for name, color, expr, title in _EVENTS
    ]


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


def _variable(variable: Variable | Constant) -> dict[str, Any]:
    base = {"name": variable.name, "label": variable.label, "hide": 0}
    if isinstance(variable, Constant):
        current = {"text": variable.default, "value": variable.default}
        return {**base, "type": "textbox", "query": variable.default, "current": current}
    expr = f"label_values({variable.series}, {variable.name})"
    return {
        **base,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": expr,
        "query": {"qryType": 1, "query": expr, "refId": "PrometheusVariableQueryEditor"},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
    }

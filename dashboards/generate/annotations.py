"""Annotations: events that are drawn into every graph."""

from typing import Any

from dashboards.generate.matchers import NAMESPACE

_STATUS = "ray_serve_deployment_status"
_UPGRADE = "kuberay_service_condition_upgrade_in_progress"
_UPDATING = 3


def _changes(series: str) -> str:
    selected = f"{series}{{{NAMESPACE}}}"
    return f"max by (model) ({selected})\n!= max by (model) ({selected} offset 1m)"


def _annotation(name: str, color: str, expr: str, title: str) -> dict[str, Any]:
    # A dictionary, because the SDK has no fields for `step`, `titleFormat` and the rest of what
    # Grafana's Prometheus data source reads.
    return {
        "name": name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
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


ANNOTATIONS = [
    _annotation(
        "Rollouts",
        "blue",
        f"max by (deployment) ({_STATUS}{{{NAMESPACE}}}) == {_UPDATING}\n"
        f'or max by (name) ({_UPGRADE}{{{NAMESPACE},condition="true"}}) == 1',
        "Rollout {{deployment}}{{name}}",
    ),
    _annotation(
        "Scaling",
        "purple",
        _changes("ray_mistral_serve_autoscaling_replicas"),
        "{{model}} was scaled",
    ),
    _annotation(
        "Replica changes",
        "yellow",
        _changes("mistral_serve_available_replicas"),
        "The available replicas of {{model}} changed",
    ),
    _annotation(
        "Alerts",
        "red",
        'ALERTS{alertstate="firing",service="mistral-serve",severity="critical"}',
        "{{alertname}} {{model}}",
    ),
]

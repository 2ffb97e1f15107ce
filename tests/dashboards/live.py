"""Sends the queries of dashboards, rules and runbooks to a running Prometheus."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx

from tests.dashboards import queries
from tests.dashboards.promql import GRAFANA, Selector, selectors, with_values

VALUES = GRAFANA | {"__rate_interval": "1m", "__range": "5m", "__range_s": "300"}

_OF_CONFIGURED_TENANTS = (
    "mistral_serve_tenant_engine_seconds",
    "mistral_serve_tenant_limited_requests",
)
_OF_ADAPTERS = (
    "mistral_serve_adapter_",
    "mistral_serve_refused_adapters",
    "mistral_serve_resident_adapters",
    "mistral_serve_served_adapters",
)
NOT_HERE: list[tuple[Callable[[Selector], bool], str]] = [
    (lambda s: s.metric.startswith(("kube_", "kubelet_", "kuberay_")), "Kubernetes alone"),
    (lambda s: s.metric.startswith("certmanager_"), "Kubernetes alone"),
    (lambda s: s.metric == "ALERTS", "no alert fires in a healthy run"),
    (lambda s: ("Name", "=", "GPU") in s.matchers, "there is no GPU"),
    (lambda s: s.metric.startswith("ray_node_gpus"), "there is no GPU"),
    (lambda s: s.metric.startswith(_OF_ADAPTERS), "no adapters are configured"),
    (lambda s: s.metric.startswith(_OF_CONFIGURED_TENANTS), "no tenants are configured"),
]
"""Selectors without data on a machine without a cluster and GPUs, and the reason."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str
    begin_s: float
    """The start of the range that queries cover."""

    def has(self, query: str, end_s: float) -> bool:
        """Whether the query had a number at any time until `end_s`."""
        response = httpx.get(
            f"{self.url}/api/v1/query_range",
            params={"query": query, "start": self.begin_s, "end": end_s, "step": 5},
            timeout=60,
        )
        assert response.status_code == 200, f"{response.text}\n{query}"
        series = response.json()["data"]["result"]
        return any(not math.isnan(float(value)) for one in series for _, value in one["values"])


def without_data(prometheus: Prometheus, end_s: float) -> list[str]:
    """The queries that find no data but should. Panels and recording rules are queried whole.
    Alerts, annotations and runbooks look for rare events: each series that they select is queried.
    """
    recorded = [
        (f"{rule['record']} {rule['labels']['slo']}", rule["expr"])
        for rule in queries.rules()
        if "record" in rule
    ]
    whole = [*queries.of_panels(), *queries.of_variables(), *recorded]
    parts = [
        (f"{where}: {selector.metric}", text(selector))
        for where, query in (
            *queries.of_rules(),
            *queries.of_annotations(),
            *queries.of_runbooks(),
        )
        for selector in selectors(with_values(query, VALUES))
    ]
    return [
        f"{where}\n    {query}"
        for where, query in (*whole, *dict.fromkeys(parts))
        if not excused(selectors(with_values(query, VALUES)))
        and not prometheus.has(with_values(query, VALUES), end_s)
    ]


def excused(asked: Iterable[Selector]) -> bool:
    return any(is_it(selector) for selector in asked for is_it, _ in NOT_HERE)


def text(selector: Selector) -> str:
    matchers = ",".join(f'{name}{op}"{value}"' for name, op, value in selector.matchers)
    return f"{selector.metric}{{{matchers}}}"

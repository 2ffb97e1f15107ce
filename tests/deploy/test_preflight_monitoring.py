"""Prometheus and Grafana: whether they find the service."""

import pytest

from serving.deploy import manifests as read
from serving.deploy.finding import State
from serving.deploy.monitoring import LABELS, monitoring
from tests.cli.deployed import K8S, NAMESPACE
from tests.deploy.facts import MANIFESTS, Object, having, of


def prometheus(
    namespace: str, everywhere: bool = True, retention: str = "31d", **selector: str
) -> Object:
    kinds = ("podMonitor", "serviceMonitor", "scrapeConfig", "rule")
    spec: Object = {f"{kind}Selector": {"matchLabels": selector} for kind in kinds}
    spec["retention"] = retention
    if everywhere:
        spec |= {f"{kind}NamespaceSelector": {} for kind in kinds}
    return {"metadata": {"name": "kps", "namespace": namespace}, "spec": spec}


def test_what_is_in_the_folder_has_the_labels_that_preflight_compares() -> None:
    for obj in read.read(K8S / "monitoring").objects:
        assert obj["metadata"]["labels"] == LABELS


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (prometheus("monitoring", release="prometheus"), []),
        (prometheus("monitoring"), []),
        (prometheus("monitoring", release="kps"), ["the podMonitorSelector of Prometheus"]),
        (
            prometheus("monitoring", everywhere=False),
            ["does not select the namespace mistral-serve"],
        ),
        (prometheus("observability", release="prometheus"), ["keep Prometheus observability/kps"]),
    ],
)
def test_a_prometheus_that_does_not_find_the_service_is_told(made: Object, said: list[str]) -> None:
    found = of(State.caution, monitoring(MANIFESTS, having(prometheuses=[made])))
    assert len(found) == len(said)
    assert all(text in each.message for text, each in zip(said, found, strict=True))
    another = having(prometheuses=[made, prometheus("monitoring", release="prometheus")])
    assert of(State.caution, monitoring(MANIFESTS, another)) == []


@pytest.mark.parametrize(
    ("kept", "cautions"),
    [("10d", 1), ("2w1d", 1), ("31d", 0), ("720h", 0), ("1y", 0), ("", 1), (None, 0)],
)
def test_a_prometheus_that_forgets_before_an_error_budget_ends_is_told(
    kept: str | None, cautions: int
) -> None:
    """Without a retention its operator sets a day, unless the size alone is bounded."""
    made = prometheus("monitoring", release="prometheus", retention=kept or "")
    if kept is None:
        made["spec"]["retentionSize"] = "100GiB"
    found = of(State.caution, monitoring(MANIFESTS, having(prometheuses=[made])))
    assert len(found) == cautions
    assert all("error budgets are of 30 days" in each.message for each in found)


@pytest.mark.parametrize(
    ("namespaces", "cautions"), [(None, 1), ("ops,monitoring", 1), ("ALL", 0), (NAMESPACE, 0)]
)
def test_a_grafana_that_does_not_look_here_for_dashboards_is_told(
    namespaces: str | None, cautions: int
) -> None:
    env = [{"name": "LABEL", "value": "grafana_dashboard"}]
    env += [{"name": "NAMESPACE", "value": namespaces}] if namespaces else []
    grafana = {
        "metadata": {"name": "grafana", "namespace": "monitoring"},
        "spec": {"template": {"spec": {"containers": [{"name": "sidecar", "env": env}]}}},
    }
    found = of(State.caution, monitoring(MANIFESTS, having(deployments=[grafana])))
    assert len(found) == cautions

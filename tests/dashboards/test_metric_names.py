"""Each query asks for metrics that exist, and for labels that our own metrics have."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.config import RouterConfig
from serving.router.http.authentication import Authentication
from serving.router.ledger.ledger import Ledger
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.telemetry.metrics import Metrics
from tests.dashboards import exporters, queries
from tests.dashboards.promql import selectors, with_values
from tests.support.engines import Engine
from tests.support.live_router import running_router

RECORDED = {rule["record"] for rule in queries.rules() if "record" in rule}
"""The series of our own recording rules."""

_OF_TARGETS = {"namespace", "component", "router", "replica", "instance", "job"}
"""Labels of a scraped target, beside those of the metric itself."""


@pytest.fixture(scope="module")
def exported() -> set[str]:
    config = RouterConfig()
    directory = Directory([], config, HealthCheck("token", 1))
    metrics = Metrics(directory, Authentication(config))
    metrics.ledger = cast(Ledger, SimpleNamespace(lost=0, unwritten=0))
    return (
        exporters.of_routers(metrics)
        | exporters.of_engines()
        | exporters.of_ray()
        | exporters.of_autoscaling()
        | exporters.OF_PROMETHEUS
        | exporters.OF_KUBERNETES
        | RECORDED
    )


@pytest.mark.parametrize(("where", "query"), queries.everything())
def test_each_metric_is_exported(exported: set[str], where: str, query: str) -> None:
    asked = {selector.metric for selector in selectors(with_values(query))}
    assert asked, f"{where} asks for nothing"
    assert asked <= exported, f"{where}: nothing exports {sorted(asked - exported)}"


def test_a_metric_that_vllm_has_no_longer_is_seen(exported: set[str]) -> None:
    """These names still stand in dashboards of others."""
    gone = {"vllm:gpu_cache_usage_perc", "vllm:num_requests_swapped", "vllm:num_preemptions"}
    assert not gone & exported
    assert {"vllm:kv_cache_usage_perc", "vllm:iteration_tokens_total_bucket"} <= exported


async def test_each_label_and_value_of_the_routers_metrics_is_there(tmp_path: Path) -> None:
    """A wrong value (`outcome="broke"`) would find nothing, which looks like good news."""
    async with running_router(Engine, ledger_folder=tmp_path) as router:
        scraped = (await router.http.get("/metrics")).text
    samples = [s for family in text_string_to_metric_families(scraped) for s in family.samples]
    names = {sample.name for sample in samples}
    for where, query in queries.everything():
        for selector in selectors(with_values(query)):
            if selector.metric in names:
                own = [m for m in selector.matchers if m[0] not in _OF_TARGETS]
                wanted = type(selector)(selector.metric, tuple(own))
                assert any(
                    wanted.matches(s.labels) for s in samples if s.name == selector.metric
                ), f"{where}: nothing is {wanted}"


async def test_the_readme_has_each_metric_of_the_routers(tmp_path: Path) -> None:
    async with running_router(Engine, ledger_folder=tmp_path) as router:
        scraped = (await router.http.get("/metrics")).text
    families = text_string_to_metric_families(scraped)
    names = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    described = (queries.FOLDER / "README.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in described] == []


def test_the_readme_has_each_metric_of_our_own_of_the_engines() -> None:
    series = {name for name in exporters.of_engines() if name.startswith("mistral_serve_")}
    names = {re.sub("_(sum|count|bucket)$", "", name) for name in series}
    described = (queries.FOLDER / "README.md").read_text()
    assert names
    assert [name for name in sorted(names) if f"`{name}`" not in described] == []

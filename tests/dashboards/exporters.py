"""The names of all metrics that exist, read from the code that exports them."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import Metric

from serving.router.telemetry.metrics import Metrics
from serving.scaling.record import Record

_OF_KIND = {
    "counter": ["_total"],
    "histogram": ["_bucket", "_count", "_sum"],
    "summary": ["_count", "_sum"],
    "gauge": [""],
}
_CLASSES = {kind.capitalize(): kind for kind in _OF_KIND}
_CLASSES |= {f"_{kind}_cls": kind for kind in _OF_KIND}

OF_PROMETHEUS = {"up", "ALERTS"}
OF_KUBERNETES = {
    # KubeRay 1.7: ray-operator/controllers/ray/metrics/ray_service_metrics.go
    "kuberay_service_condition_ready",
    "kuberay_service_condition_upgrade_in_progress",
    # kube-state-metrics 2: docs/metrics/workload/
    "kube_statefulset_status_replicas_ready",
    "kube_pod_container_status_restarts_total",
    *("kube_pod_created", "kube_pod_status_scheduled_time", "kube_pod_status_initialized_time"),
    # The kubelet, of each volume that its driver reports
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    # cert-manager 1: pkg/metrics/certificates.go
    "certmanager_certificate_expiration_timestamp_seconds",
}
"""Metrics of programs that run in a cluster and are not installed here."""


def series(name: str, kind: str) -> set[str]:
    """The names of the series of a metric, as prometheus-client builds them."""
    name = name.removesuffix("_total") if kind == "counter" else name
    return {name + suffix for suffix in _OF_KIND[kind]}


def of_routers(metrics: Metrics) -> set[str]:
    return {name for family in metrics.collect() for name in _family(family)}


def _family(family: Metric) -> set[str]:
    if family.type == "summary":
        return {family.name} | series(family.name, family.type)
    return series(family.name, family.type)


def of_engines() -> set[str]:
    """vLLM's metrics that do not depend on its flags, and our engines' own."""
    vllm = _package("vllm") / "v1/metrics/loggers.py"
    own = Path(__file__).parents[2] / "serving/engine"
    return {
        name
        for path in (
            vllm,
            *(own / name for name in ("adapters.py", "vllm/answering.py", "start_log.py")),
        )
        for metric, kind in _unconditional(ast.parse(path.read_text()))
        if metric.startswith(("vllm:", "mistral_serve_"))
        for name in series(metric, kind)
    }


def of_ray() -> set[str]:
    """The metrics in Ray Serve's code and of Ray's agent on each node, and those that Ray's own
    dashboards show."""
    names = set()
    agent = _package("ray") / "dashboard/modules/reporter/reporter_agent.py"
    for path in (*(_package("ray") / "serve/_private").glob("*.py"), agent):
        for metric, kind in _defined(ast.parse(path.read_text())):
            names |= {f"ray_{name}" for name in series(metric, kind)}
    panels = _package("ray") / "dashboard/modules/metrics/dashboards/default_dashboard_panels.py"
    return names | set(re.findall(r"\bray_\w+", panels.read_text()))


def of_autoscaling() -> set[str]:
    """The metrics of serving/autoscaling, which Ray exports."""
    names: list[str] = []

    class Gauge:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            names.append(f"ray_{name}")

        def set(self, value: float, tags: dict[str, str]) -> None: ...

    Record("model", Gauge)
    return set(names)


def _package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed"
    return Path(spec.origin).parent


def _unconditional(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Metrics that are created outside of any `if`."""
    if isinstance(node, ast.If):
        return
    yield from _definition(node)
    for child in ast.iter_child_nodes(node):
        yield from _unconditional(child)


def _defined(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        yield from _definition(node)


def _definition(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The name and kind of the metric that a call creates, if it creates one."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
        return
    called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
    given = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "name")]
    if called in _CLASSES and given and isinstance(given[0], ast.Constant):
        yield str(given[0].value), _CLASSES[called]

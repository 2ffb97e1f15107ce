"""Whether Prometheus and Grafana, where the cluster has them, find what k8s/ makes for them."""

import re
from collections.abc import Iterator
from itertools import chain

from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, caution
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.pods import containers
from serving.deploy.reach import admits, namespace_labels
from serving.deploy.selectors import selects

LABELS = {"app.kubernetes.io/part-of": "mistral-serve", "release": "prometheus"}
"""The labels of all objects in k8s/monitoring/."""
_KINDS = ("podMonitor", "serviceMonitor", "scrapeConfig", "rule")
_METRICS = 8080
_PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
_SIDECAR = "grafana_dashboard"
_BUDGET_DAYS = 30
_DURATION = r"(\d+)(ms|[smhdwy])"
_DAYS = {"ms": 0, "s": 1 / 86400, "m": 1 / 1440, "h": 1 / 24, "d": 1, "w": 7, "y": 365}
"""Prometheus' units of time."""


def monitoring(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Cautions; if one of several finds the service, none about those that do not."""
    prometheuses = facts.prometheuses or []
    found = [list(_prometheus(each, manifests, facts)) for each in prometheuses]
    if all(found):
        yield from chain(*found)
    for prometheus, lacks in zip(prometheuses, found, strict=True):
        if not lacks or all(found):
            yield from _retention(prometheus)
    for deployment in facts.deployments or ():
        yield from _grafana(deployment, manifests)


def _prometheus(prometheus: Object, manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    home, spec = prometheus["metadata"]["namespace"], prometheus.get("spec") or {}
    name = f"Prometheus {home}/{prometheus['metadata']['name']}"
    here = manifests.namespace
    space = namespace_labels(facts, here)
    for kind in _KINDS:
        selector, of_spaces = f"{kind}Selector", f"{kind}NamespaceSelector"
        if not selects(spec.get(selector), LABELS):
            labels = (spec.get(selector) or {}).get("matchLabels") or {}
            wanted = ", ".join(f"{key}: {value}" for key, value in labels.items())
            yield caution(
                "monitoring",
                f"the {selector} of {name} does not select what k8s/monitoring/ has",
                f"give k8s/monitoring/*.yaml the labels {wanted} in place of release: prometheus"
                if wanted
                else f"set {selector}: {{}} there",
            )
            break
        if not (selects(spec[of_spaces], space) if of_spaces in spec else home == here):
            yield caution(
                "monitoring",
                f"the {of_spaces} of {name} does not select the namespace {here}",
                f"set {of_spaces}: {{}} there, or give the namespace the labels that it selects",
            )
            break
    if not admits(manifests, facts, home, _PROMETHEUS, _METRICS):
        yield caution(
            "monitoring",
            f"the NetworkPolicies keep {name} from the metrics",
            f"set the namespace of the NetworkPolicies prometheus-to-… to {home}",
        )


def _retention(prometheus: Object) -> Iterator[Finding]:
    """Checks that the samples of the error budgets' 30 days are kept."""
    spec = prometheus.get("spec") or {}
    kept = spec.get("retention") or ("" if spec.get("retentionSize") else "24h")
    days = sum(int(number) * _DAYS[unit] for number, unit in re.findall(_DURATION, kept))
    if kept and days < _BUDGET_DAYS:
        meta = prometheus["metadata"]
        yield caution(
            "monitoring",
            f"Prometheus {meta['namespace']}/{meta['name']} keeps its samples for {kept}, and "
            f"error budgets are of {_BUDGET_DAYS} days: they show those of a shorter time",
            "set retention: 31d there (prometheus.prometheusSpec.retention in the values of "
            "kube-prometheus-stack), with a volume for it",
        )


def _grafana(deployment: Object, manifests: Manifests) -> Iterator[Finding]:
    """Checks that Grafana's sidecar looks for dashboards in the namespace of the service."""
    home = deployment["metadata"]["namespace"]
    for container in containers(deployment["spec"]["template"]["spec"]):
        env = {each["name"]: each.get("value") for each in container.get("env") or ()}
        places = (env.get("NAMESPACE") or home).split(",")
        if env.get("LABEL") == _SIDECAR and not {"ALL", manifests.namespace} & set(places):
            yield caution(
                "monitoring",
                f"Grafana {home}/{deployment['metadata']['name']} looks for dashboards in "
                f"{', '.join(places)} alone",
                "set sidecar.dashboards.searchNamespace: ALL in the values of Grafana's chart "
                "(below grafana: in kube-prometheus-stack)",
            )

"""Whether Prometheus and Grafana, where the cluster has them, find what k8s/ makes for them."""

from collections.abc import Iterator

from serving.deploy.facts import Facts, Object
from serving.deploy.finding import Finding, caution
from serving.deploy.manifests import Manifests
from serving.deploy.pods import containers
from serving.deploy.reach import admits
from serving.deploy.selectors import selects

LABELS = {"app.kubernetes.io/part-of": "mistral-serve", "release": "prometheus"}
"""The labels of all objects in k8s/monitoring/."""
_KINDS = ("podMonitor", "serviceMonitor", "scrapeConfig", "rule")
_METRICS = 8080
_PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
_SIDECAR = "grafana_dashboard"


def monitoring(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    for each in facts.prometheuses or ():
        yield from _prometheus(each, manifests, facts)
    for deployment in facts.deployments or ():
        yield from _grafana(deployment, manifests)


def _prometheus(prometheus: Object, manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    home, spec = prometheus["metadata"]["namespace"], prometheus.get("spec") or {}
    name = f"Prometheus {home}/{prometheus['metadata']['name']}"
    selectors = {kind: spec.get(f"{kind}Selector") for kind in _KINDS}
    refused = [kind for kind, selector in selectors.items() if not selects(selector, LABELS)]
    if refused:
        wanted = (selectors[refused[0]] or {}).get("matchLabels") or "all, by {}"
        yield caution(
            "monitoring",
            f"{name} does not select k8s/monitoring/: {', '.join(refused)}Selector",
            f"set the labels of k8s/monitoring/ to what it selects: {wanted}; "
            "sed -i.old 's/release: prometheus/release: NAME/' k8s/monitoring/*.yaml",
        )
    if not admits(manifests, facts, home, _PROMETHEUS, _METRICS):
        yield caution(
            "monitoring",
            f"the NetworkPolicies keep {name} from the metrics",
            f"set the namespace of the NetworkPolicies prometheus-to-… to {home}",
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

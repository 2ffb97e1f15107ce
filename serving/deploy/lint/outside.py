"""Rules of connections with what is not in the manifests: names, the operator, clients, addresses.

Who they are differs from cluster to cluster, so a policy counts that opens the port to any but the
service's own pods.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal
from urllib.parse import urlsplit

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.network import Peer, is_port, rules_for
from serving.deploy.lint.pods import Pod, pods
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.selectors import selects
from serving.tenants.authentication_config import is_loopback

_DNS = (53, 5353)
_API_SERVER = (443, 6443, 8443, 16443)
_DASHBOARD = 8265
_HTTPS = 443
_PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
_OWN_DOWNLOADS = {"HF_ENDPOINT", "HTTPS_PROXY", "https_proxy"}
"""Variables that have weights come from an address of the user's own."""


@dataclass(frozen=True)
class _Need:
    """A connection of a pod with somebody; one of the ports is enough."""

    direction: Literal["Ingress", "Egress"]
    somebody: str
    ports: tuple[int, ...]
    protocol: str = "TCP"


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    wrong = report_on(named(manifests.service), "outside")
    everyone = pods(manifests)
    kinds = {obj["kind"] for obj in manifests.objects} - {"NetworkPolicy"}
    if any(kind.endswith("NetworkPolicy") for kind in kinds):
        return  # what Cilium's policies allow, and those of its like, comes on top
    for pod in everyone:
        name = pod.owner.rpartition(", ")[2]
        for need in _needs(pod, config):
            if not any(_is_open(manifests, everyone, pod, need, port) for port in need.ports):
                ends = f"{name} from {need.somebody}"
                if need.direction == "Ingress":
                    ends = f"{need.somebody} from {name}"
                numbers = " or ".join(map(str, need.ports))
                yield wrong("blocked", f"NetworkPolicies keep {ends} on port {numbers}")


def _needs(pod: Pod, config: AppConfig) -> Iterator[_Need]:
    if pod.node_type or pod.component == "weights":
        yield _Need("Egress", "names (DNS)", _DNS, "UDP")
    if pod.node_type == "head":
        yield _Need("Ingress", "KubeRay's operator", (_DASHBOARD,))
    if any(container["name"] == "autoscaler" for container in pod.containers):
        yield _Need("Egress", "the API server", _API_SERVER)
    if any(_downloads(container) for container in pod.containers):
        yield _Need("Egress", "Hugging Face", (_HTTPS,))
    if pod.component == "router":
        yield _Need("Ingress", "clients", (config.router.port,))
    for somebody, url in _addresses(config, pod.component):
        parts = urlsplit(url)
        if not is_loopback(parts.hostname or ""):
            port = parts.port or (_HTTPS if parts.scheme == "https" else 80)
            yield _Need("Egress", f"{somebody} {url}", (port,))


def _addresses(config: AppConfig, component: str) -> Iterator[tuple[str, str]]:
    """What a component asks, by the settings that name it."""
    if component in ("router", "engine") and config.tracing.otlp_endpoint is not None:
        yield "tracing.otlp_endpoint", config.tracing.otlp_endpoint
    if component == "router":
        if (oidc := config.router.authentication.oidc) is not None:
            yield "router.authentication.oidc.issuer", oidc.issuer
        for model in config.models:
            if model.entry.base_url is not None:
                yield f"the base_url of {model.entry.id},", model.entry.base_url


def _downloads(container: Object) -> bool:
    """Whether a container fetches weights from Hugging Face's own address."""
    words = " ".join(container.get("command", ()))
    env = {variable["name"]: variable.get("value") for variable in container.get("env", ())}
    return (
        "mistral-serve weights" in words
        and "--wait" not in words
        and env.get("HF_HUB_OFFLINE") != "1"
        and "envFrom" not in container
        and not _OWN_DOWNLOADS & env.keys()
    )


def _is_open(manifests: Manifests, everyone: list[Pod], pod: Pod, need: _Need, port: int) -> bool:
    """Whether policies leave a port open between a pod and some that are not of the service."""
    own = Peer(pod.namespace, pod.labels, ports=pod.ports)
    policies = rules_for(manifests.of_kind("NetworkPolicy"), need.direction, own)
    key, target = ("to", Peer()) if need.direction == "Egress" else ("from", own)
    every: list[Object] = [{"protocol": need.protocol}]
    return not policies or any(
        any(is_port(each, target, port, need.protocol) for each in rule.get("ports") or every)
        and (not rule.get(key) or any(_is_of_others(peer, everyone) for peer in rule[key]))
        for rule in chain(*policies)
    )


def _is_of_others(peer: Object, everyone: list[Pod]) -> bool:
    selector = peer.get("podSelector")
    if selects(selector, _PROMETHEUS) and not selects(selector, {}):
        return False  # it reads metrics, where clients send requests
    if "ipBlock" in peer or "namespaceSelector" in peer:
        return True
    return not any(selects(selector, pod.labels) for pod in everyone)

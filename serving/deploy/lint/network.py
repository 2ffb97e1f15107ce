"""Rules of the network, by evaluating NetworkPolicies: which connections must and must not pass."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from serving.deploy.kube import named
from serving.deploy.lint.connections import LISTENERS, ports_of
from serving.deploy.lint.finding import Finding, report_on
from serving.deploy.lint.pods import CLEANUP, Pod, pods
from serving.deploy.manifests import Manifests, Object
from serving.deploy.selectors import selects

_REDIS = 6379
_DASHBOARD = 8265
_RAY_PORT = 35123
"""An example of the ports that Ray's processes take."""


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside of the cluster if it has no namespace."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    ip: str = "10.0.0.7"
    ports: dict[str, int] = field(default_factory=dict)
    """The numbers of a pod's named ports."""

    @property
    def is_pod(self) -> bool:
        return bool(self.namespace)


_STRANGER = Peer("another", {}, {"kubernetes.io/metadata.name": "another"})
_CLOSED = {"head": (_DASHBOARD, 10001, _REDIS), "redis": (_REDIS,), "engine": (7000, 8000)}
"""Ports that no pod of another namespace may reach: to talk to Ray is to run code on all nodes."""


def problems(manifests: Manifests) -> Iterator[Finding]:
    """Connections that the service needs and policies forbid, and open ports of Ray and Redis."""
    wrong = report_on(named(manifests.service), "network")
    policies = manifests.of_kind("NetworkPolicy")
    everyone = [
        (pod, Peer(pod.namespace, pod.labels, ports=ports_of(pod))) for pod in pods(manifests)
    ]
    for pod, peer in everyone:
        for other, target in everyone:
            for port in _needed(pod, other):
                if not allowed(policies, peer, target, port):
                    yield wrong(
                        "blocked",
                        f"NetworkPolicies keep {_short(pod)} from {_short(other)} on port {port}",
                        "add a policy that allows it, as k8s/13-network.yaml does",
                    )
        for port in _CLOSED.get(pod.component, ()):
            if allowed(policies, _STRANGER, peer, port):
                yield wrong(
                    "open",
                    f"any pod of the cluster reaches port {port} of {_short(pod)}",
                    "deny by default with a NetworkPolicy of podSelector: {}, and allow who needs "
                    "it, as k8s/13-network.yaml does",
                )


def _short(pod: Pod) -> str:
    return pod.owner.rpartition(", ")[2]


def _needed(pod: Pod, other: Pod) -> Sequence[int]:
    """The ports of `other` that `pod` must reach."""
    nodes = ("head", "worker")
    if pod.node_type in nodes and other.node_type in nodes:
        ports = {*LISTENERS["head"]} - {_REDIS} if other.node_type == "head" else set()
        return sorted({*ports, _RAY_PORT})
    to_redis = pod.node_type in ("head", CLEANUP) and other.component == "redis"
    return [_REDIS] if to_redis else []


def allowed(
    policies: Sequence[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the policies of both namespaces let a connection from source to target pass."""
    return _passes(policies, "Egress", source, target, port, protocol) and _passes(
        policies, "Ingress", target, source, port, protocol
    )


def _passes(
    policies: Sequence[Object], direction: str, own: Peer, other: Peer, port: int, protocol: str
) -> bool:
    if not own.is_pod:
        return True
    of_own = [
        policy["spec"]
        for policy in policies
        if policy["metadata"].get("namespace", "default") == own.namespace
        and selects(policy["spec"]["podSelector"], own.labels)
        and direction in _types(policy["spec"])
    ]
    peers_key, target = ("from", own) if direction == "Ingress" else ("to", other)
    return not of_own or any(
        _is_one_of(rule.get(peers_key), own, other)
        and _has_port(rule.get("ports"), target, port, protocol)
        for spec in of_own
        for rule in spec.get(direction.lower(), ())
    )


def _types(spec: Object) -> Sequence[str]:
    default = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    found: Sequence[str] = spec.get("policyTypes", default)
    return found


def _is_one_of(peers: list[Object] | None, own: Peer, other: Peer) -> bool:
    return not peers or any(_is(peer, own, other) for peer in peers)


def _is(peer: Object, own: Peer, other: Peer) -> bool:
    if block := peer.get("ipBlock"):
        address = ipaddress.ip_address(other.ip)
        return _in(address, block["cidr"]) and not any(
            _in(address, excepted) for excepted in block.get("except", ())
        )
    if not other.is_pod:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], other.namespace_labels):
            return False
    elif other.namespace != own.namespace:
        return False
    return selects(peer.get("podSelector", {}), other.labels)


def _in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, cidr: str) -> bool:
    network = ipaddress.ip_network(cidr)
    return address.version == network.version and address in network


def _has_port(ports: list[Object] | None, target: Peer, port: int, protocol: str) -> bool:
    return not ports or any(_is_port(rule, target, port, protocol) for rule in ports)


def _is_port(rule: Object, target: Peer, port: int, protocol: str) -> bool:
    if rule.get("protocol", "TCP") != protocol:
        return False
    first: int | str = rule.get("port", port)
    if isinstance(first, str):
        return target.ports.get(first) == port
    last: int = rule.get("endPort") or first
    return first <= port <= last

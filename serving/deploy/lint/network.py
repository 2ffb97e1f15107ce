"""Rules of the network, by evaluating NetworkPolicies: which connections must and must not pass."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.connections import LISTENERS
from serving.deploy.lint.pods import CLEANUP, Pod, namespace_of, pods
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
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


_STRANGER = Peer("another", {}, {"kubernetes.io/metadata.name": "another"})
_CLOSED = {"head": (_DASHBOARD, 10001, _REDIS), "redis": (_REDIS,), "engine": (7000, 8000)}
"""Ports that no pod of another namespace may reach: to talk to Ray is to run code on all nodes."""


def problems(manifests: Manifests) -> Iterator[Finding]:
    """Connections that the service needs and policies forbid, and open ports of Ray and Redis."""
    wrong = report_on(named(manifests.service), "network")
    policies = manifests.of_kind("NetworkPolicy")
    everyone = [
        (pod, pod.owner.rpartition(", ")[2], Peer(pod.namespace, pod.labels, ports=pod.ports))
        for pod in pods(manifests)
    ]
    for pod, name, peer in everyone:
        for other, other_name, target in everyone:
            for port in _needed(pod, other):
                if not allowed(policies, peer, target, port):
                    flow = f"{name} from {other_name} on port {port}"
                    yield wrong("blocked", f"NetworkPolicies keep {flow}")
        for port in _CLOSED.get(pod.component, ()):
            if allowed(policies, _STRANGER, peer, port):
                yield wrong("open", f"any pod of the cluster reaches port {port} of {name}")


def _needed(pod: Pod, other: Pod) -> Sequence[int]:
    """The ports of `other` that `pod` must reach."""
    nodes = ("head", "worker")
    if pod.node_type in nodes and other.node_type in nodes:
        ports = LISTENERS["head"] - {_REDIS} if other.node_type == "head" else set()
        return sorted({*ports, _RAY_PORT})
    asks_redis = pod.node_type in ("head", CLEANUP) or _has_password_of_redis(pod)
    return [_REDIS] if asks_redis and other.component == "redis" != pod.component else []


def _has_password_of_redis(pod: Pod) -> bool:
    return any(
        variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "redis-password"
        for container in pod.containers
        for variable in container.get("env", ())
    )


def allowed(
    policies: Sequence[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the policies of both namespaces let a connection from source to target pass."""
    every: list[Object] = [{"protocol": protocol}]
    for direction, key, own, other in (
        ("Egress", "to", source, target),
        ("Ingress", "from", target, source),
    ):
        rules = rules_for(policies, direction, own)
        if rules and not any(
            (not rule.get(key) or any(_is(peer, own, other) for peer in rule[key]))
            and any(is_port(each, target, port, protocol) for each in rule.get("ports") or every)
            for rule in chain(*rules)
        ):
            return False
    return True


def rules_for(policies: Sequence[Object], direction: str, own: Peer) -> list[Sequence[Object]]:
    """Returns the rules, Ingress or Egress, of each policy that restricts a pod in that direction;
    where there is no such policy all may pass."""
    return [
        policy["spec"].get(direction.lower(), ())
        for policy in policies
        if own.namespace and namespace_of(policy) == own.namespace
        if selects(policy["spec"]["podSelector"], own.labels)
        if direction in _types(policy["spec"])
    ]


def _types(spec: Object) -> list[str]:
    return list(spec.get("policyTypes", ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]))


def _is(peer: Object, own: Peer, other: Peer) -> bool:
    if block := peer.get("ipBlock"):
        excepted = block.get("except", ())
        return _in(other.ip, block["cidr"]) and not any(_in(other.ip, each) for each in excepted)
    if "namespaceSelector" in peer:
        in_namespace = selects(peer["namespaceSelector"], other.namespace_labels)
    else:
        in_namespace = other.namespace == own.namespace
    of_pods = bool(other.namespace) and selects(peer.get("podSelector", {}), other.labels)
    return in_namespace and of_pods


def _in(ip: str, cidr: str) -> bool:
    return ipaddress.ip_address(ip) in ipaddress.ip_network(cidr)


def is_port(rule: Object, target: Peer, port: int, protocol: str) -> bool:
    """Whether one of a policy's `ports` is this port of the target."""
    first = rule.get("port", port)
    if isinstance(first, str):
        first = target.ports.get(first, 0)
    last = rule.get("endPort") or first
    return bool(rule.get("protocol", "TCP") == protocol and first <= port <= last)

"""NetworkPolicies, evaluated: whether a packet of a new connection may pass."""

import ipaddress
from dataclasses import dataclass, field

from tests.cluster.selectors import label_selector_matches
from tests.k8s.manifests import Object, of_kind


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside of the cluster."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    ip: str = "10.0.0.7"

    @property
    def is_pod(self) -> bool:
        return bool(self.namespace)


def allowed(
    policies: list[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """By the policies of the source's namespace and of the target's."""
    policies = of_kind(policies, "NetworkPolicy")
    return _passes(policies, "Egress", source, target, port, protocol) and _passes(
        policies, "Ingress", target, source, port, protocol
    )


def _passes(
    policies: list[Object], direction: str, own: Peer, other: Peer, port: int, protocol: str
) -> bool:
    if not own.is_pod:
        return True
    of_own = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == own.namespace
        and label_selector_matches(policy["spec"]["podSelector"], own.labels)
        and direction in policy["spec"].get("policyTypes", ["Ingress"])
    ]
    peers_key = "from" if direction == "Ingress" else "to"
    return not of_own or any(
        _is_one_of(rule.get(peers_key), own, other) and _has_port(rule.get("ports"), port, protocol)
        for policy in of_own
        for rule in policy["spec"].get(direction.lower(), ())
    )


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
        if not label_selector_matches(peer["namespaceSelector"], other.namespace_labels):
            return False
    elif other.namespace != own.namespace:
        return False
    return label_selector_matches(peer.get("podSelector", {}), other.labels)


def _in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, cidr: str) -> bool:
    network = ipaddress.ip_network(cidr)
    return address.version == network.version and address in network


def _has_port(ports: list[Object] | None, port: int, protocol: str) -> bool:
    return not ports or any(_is_port(rule, port, protocol) for rule in ports)


def _is_port(rule: Object, port: int, protocol: str) -> bool:
    if rule.get("protocol", "TCP") != protocol:
        return False
    first: int = rule.get("port", port)
    last: int = rule.get("endPort", first)
    return first <= port <= last

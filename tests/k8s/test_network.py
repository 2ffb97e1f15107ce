"""Who may talk to whom: exactly the flows of the design."""

import pytest

from serving.deploy.lint.network import Peer, allowed
from serving.deploy.lint.pods import CLEANUP, pods
from serving.ports import REPLICAS
from tests.k8s.manifests import base, needs_kubectl, overlay

OPERATOR = Peer(
    "kuberay-system",
    {"app.kubernetes.io/name": "kuberay-operator"},
    {"kubernetes.io/metadata.name": "kuberay-system"},
)
PROMETHEUS = Peer(
    "monitoring",
    {"app.kubernetes.io/name": "prometheus"},
    {"kubernetes.io/metadata.name": "monitoring"},
)
DNS = Peer("kube-system", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"})
OPENSHIFT_DNS = Peer("openshift-dns", {}, {"kubernetes.io/metadata.name": "openshift-dns"})
OUTSIDE = {
    "client": Peer("chat", {}, {"mistral-serve/client": "true"}),
    "stranger": Peer("other", {}, {"kubernetes.io/metadata.name": "other"}),
    "operator": OPERATOR,
    "another pod beside the operator": Peer(
        "kuberay-system", {}, {"kubernetes.io/metadata.name": "kuberay-system"}
    ),
    "an operator's double": Peer(
        "other", OPERATOR.labels, {"kubernetes.io/metadata.name": "other"}
    ),
    "prometheus": PROMETHEUS,
    "grafana": Peer(
        "monitoring", {"app.kubernetes.io/name": "grafana"}, PROMETHEUS.namespace_labels
    ),
    "dns": DNS,
    "OpenShift's dns": OPENSHIFT_DNS,
    "a node's DNS cache": Peer(ip="169.254.20.10"),
    "internet": Peer(ip="93.184.215.14"),
    "internet by IPv6": Peer(ip="2606:2800:21f:cb07:6820:80da:af6b:8b2c"),
    "the private network": Peer(ip="192.168.3.4"),
    "the cloud's metadata": Peer(ip="169.254.169.254"),
    "a private IPv6 address": Peer(ip="fd00::7"),
    "api server": Peer(ip="10.96.0.1"),
}
RAY = {"head", "router", "engine"}
PORTS = {
    *(53, 5353, 80),  # names, the internet
    *(API_PORTS := {443, 6443, 8443, 16443}),
    *(8000, 6379, 8265, 10001),  # router, GCS and Redis, Ray's dashboard and client
    *(8080, 44217, 44227, 52365),  # metrics, Ray's agent
    *(6999, *(REPLICA_PORTS := {7000, 7999}), 8001),  # where engines and routers are scraped
    *(22, 1023, 1024, 35123, 65535),
}
RESOLVERS = ("dns", "OpenShift's dns", "a node's DNS cache", "the cloud's metadata")
"""GKE's Cloud DNS has the address of the metadata server."""
FLOWS: dict[tuple[str, str], set[int]] = {
    **{(source, target): PORTS for source in RAY for target in RAY},
    ("client", "router"): {8000},
    ("operator", "head"): {8265},
    ("prometheus", "head"): {8080, 44217, 44227},
    ("prometheus", "router"): {8080, 8000, *REPLICA_PORTS},
    ("prometheus", "engine"): {8080, *REPLICA_PORTS},
    ("head", "redis"): {6379},
    ("router", "redis"): {6379},
    ("redis-cleanup", "redis"): {6379},
    **{
        (source, target): {53, 5353}
        for source in RAY | {"redis-cleanup", "weights"}
        for target in RESOLVERS
    },
    **{("weights", target): {443} for target in ("internet", "internet by IPv6")},
    **{("engine", target): {80, 443} for target in ("internet", "internet by IPv6")},
}
# The API server's address differs from cluster to cluster, so it is any.
for target in OUTSIDE:
    FLOWS["head", target] = FLOWS.get(("head", target), set()) | API_PORTS
"""Ports of TCP."""
UDP_FLOWS = {
    **{pair: ports & {53, 5353} for pair, ports in FLOWS.items() if pair[1] in RESOLVERS},
    **{pair: ports for pair, ports in FLOWS.items() if set(pair) <= RAY},
}


def peers() -> dict[str, Peer]:
    inside = {}
    for pod in pods(base()):
        name = CLEANUP if pod.node_type == CLEANUP else pod.component
        inside[name] = Peer(pod.namespace, pod.labels)
    assert inside.keys() == RAY | {"redis", CLEANUP, "weights"}
    return inside | OUTSIDE


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_exactly_these_flows_are_allowed(protocol: str) -> None:
    everyone, policies = peers(), base().of_kind("NetworkPolicy")
    open_ports = {
        (source, target): {port for port in PORTS if allowed(policies, from_, to, port, protocol)}
        for source, from_ in everyone.items()
        for target, to in everyone.items()
        if "mistral-serve" in (from_.namespace, to.namespace)
    }
    wanted = FLOWS if protocol == "TCP" else UDP_FLOWS
    for pair, ports in open_ports.items():
        assert ports == wanted.get(pair, set()), " to ".join(pair)
    assert wanted.keys() <= open_ports.keys()


def test_no_needed_flow_depends_on_what_some_plugins_ignore() -> None:
    """Azure's and older Ciliums ignore endPort, and Cilium matches no node by an ipBlock."""
    policies = {obj["metadata"]["name"]: obj["spec"] for obj in base().of_kind("NetworkPolicy")}
    with_ranges = [name for name, spec in policies.items() if "endPort" in str(spec)]
    assert with_ranges == ["prometheus-to-replicas"]
    assert not any("to" in rule for rule in policies["head-to-api-server"]["egress"])


def test_no_pod_of_the_namespace_is_without_policy() -> None:
    debug, policies = Peer("mistral-serve", {"app": "debug"}), base().of_kind("NetworkPolicy")
    for peer in peers().values():
        assert not allowed(policies, debug, peer, 8000)
        assert not allowed(policies, peer, debug, 8000)


def test_replicas_listen_where_prometheus_may_ask() -> None:
    assert {REPLICAS[0], REPLICAS[-1]} == REPLICA_PORTS


@needs_kubectl
def test_where_upgrades_go_by_a_gateway_clients_reach_routers_through_it_alone() -> None:
    policies = overlay("incremental-upgrade").of_kind("NetworkPolicy")
    everyone = peers()
    gateway = Peer("mistral-serve", {"gateway.networking.k8s.io/gateway-name": "mistral-gateway"})
    reached = {
        name
        for name, peer in everyone.items()
        for port in PORTS
        if allowed(policies, gateway, peer, port)
    }
    assert reached == {"router", *RESOLVERS}
    assert allowed(policies, everyone["client"], gateway, 80)
    assert allowed(policies, gateway, everyone["router"], 8000)
    assert not allowed(policies, everyone["stranger"], gateway, 80)
    assert not allowed(policies, gateway, everyone["router"], 8080)

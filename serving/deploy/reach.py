"""Whether the manifests' NetworkPolicies let pass what differs from cluster to cluster."""

from collections.abc import Iterator

from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, missing
from serving.deploy.lint.network import Peer, allowed
from serving.deploy.lint.pods import ray_pods
from serving.deploy.manifests import Manifests


def admits(
    manifests: Manifests, facts: Facts, namespace: str, labels: dict[str, str], port: int
) -> bool:
    """Whether a pod of another namespace reaches a port of the head."""
    peer = Peer(namespace, labels, namespace_labels(facts, namespace))
    return allowed(manifests.of_kind("NetworkPolicy"), peer, _head(manifests), port)


def namespace_labels(facts: Facts, name: str) -> dict[str, str]:
    """The labels of a namespace, which may not exist yet."""
    spaces = {each["metadata"]["name"]: each["metadata"] for each in facts.namespaces or ()}
    labels = spaces.get(name, {}).get("labels") or {}
    return {"kubernetes.io/metadata.name": name} | labels


def api_server(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks that the head's autoscaler reaches the API server, and that its address is one of
    IPv4.
    """
    policies, head = manifests.of_kind("NetworkPolicy"), _head(manifests)
    for each in facts.api_endpoints or ():
        if each.get("addressType") == "IPv6":
            yield missing(
                "network",
                "the cluster's first address family is IPv6, which is not supported",
                "use a cluster of IPv4, or of both with IPv4 first",
            )
        peers = [Peer(ip=ip) for endpoint in each["endpoints"] for ip in endpoint["addresses"]]
        for port in {port["port"] for port in each.get("ports") or ()}:
            if not all(allowed(policies, head, peer, port) for peer in peers):
                yield missing(
                    "network",
                    f"the NetworkPolicies keep the head from the API server on port {port}",
                    f"add {{protocol: TCP, port: {port}}} to the NetworkPolicy head-to-api-server",
                )


def _head(manifests: Manifests) -> Peer:
    pod = next(iter(ray_pods(manifests.service)))
    return Peer(pod.namespace, pod.labels, ports=pod.ports)

"""Connections with what no manifest has: whoever a user's own policies let in counts."""

import copy
from typing import Any

import pytest

from tests.k8s.manifests import Object, base
from tests.k8s.mistakes import change, changed, linted
from tests.k8s.serve_configs import with_tracing


def blocked(objects: list[Object]) -> list[str]:
    return [each.message for each in linted(objects) if each.rule == "outside/blocked"]


@pytest.mark.parametrize(
    ("policy", "path", "peers"),
    [
        ("clients-to-routers", "spec.ingress.0.from",
         [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]),
        ("clients-to-routers", "spec.ingress.0.from", [{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
        ("clients-to-routers", "spec.ingress.0.from", [{"namespaceSelector": {}}]),
        ("clients-to-routers", "spec.ingress.0.from",
         [{"podSelector": {"matchLabels": {"app": "gateway"}}}]),
        ("operator-to-head", "spec.ingress.0.from",
         [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ray-system"}}}]),
        ("names", "spec.egress.0.to", [{"ipBlock": {"cidr": "10.0.0.10/32"}}]),
        ("head-to-api-server", "spec.egress.0.to", [{"ipBlock": {"cidr": "172.16.0.1/32"}}]),
    ],
)  # fmt: skip
def test_peers_of_the_users_own_count(policy: str, path: str, peers: list[Any]) -> None:
    assert blocked(changed(f"NetworkPolicy {policy}", path, peers)) == []


def test_the_services_own_pods_are_no_clients() -> None:
    own = [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": "engine"}}}]
    assert blocked(changed("NetworkPolicy clients-to-routers", "spec.ingress.0.from", own)) == [
        "NetworkPolicies keep clients from router on port 8000"
    ]


@pytest.mark.parametrize(
    "policy",
    ["names", "operator-to-head", "clients-to-routers", "head-to-api-server",
     "weights-from-internet"],
)  # fmt: skip
def test_a_policy_that_was_removed_is_missed(policy: str) -> None:
    objects = [
        obj
        for obj in base().objects
        if (obj["kind"], obj["metadata"]["name"]) != ("NetworkPolicy", policy)
    ]
    assert blocked(copy.deepcopy(objects))


def test_a_collector_beside_the_process_needs_no_policy() -> None:
    objects = changed(
        "RayService mistral", "spec.serveConfigV2", with_tracing("http://localhost:4318")
    )
    assert blocked(objects) == []


def test_what_proxies_and_offline_jobs_fetch_is_not_guessed() -> None:
    objects = changed("NetworkPolicy weights-from-internet", "spec.egress", [])
    variable = {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}
    change(objects, "Job weights", "spec.template.spec.containers.0.env.0", variable)
    assert blocked(objects) == []

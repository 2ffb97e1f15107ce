"""What the test server refuses: schemas, rules in CEL, and what no schema says."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import examples
from tests.cluster.api import Options
from tests.cluster.cel import program
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ApiError
from tests.cluster.fields import pruned
from tests.cluster.pod_security import violations
from tests.cluster.schemas import published_crds

Object = dict[str, Any]


@pytest.fixture(scope="module")
def shared() -> Cluster:
    """A cluster in which tests try what it refuses."""
    cluster = Cluster()
    cluster.create(examples.NAMESPACE)
    return cluster


def refused(cluster: Cluster, obj: Object) -> str:
    """What the server says against an object that it does not take."""
    obj.setdefault("metadata", {}).setdefault("name", "tried")
    with pytest.raises(ApiError) as error:
        cluster.create(obj)
    return error.value.message


def tried(cluster: Cluster, obj: Object) -> Object:
    """The object as the server would keep it."""
    kind = cluster.api.kind_of(obj["apiVersion"], obj["kind"])
    assert kind is not None
    namespace = "mistral" if kind.namespaced else ""
    metadata = {"name": "tried"} | obj.get("metadata", {})
    options = Options(dry_run=True, field_validation="Strict")
    return cluster.api.create(kind, namespace, obj | {"metadata": metadata}, options)[0]


def route(**rule: Any) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "spec": {"rules": [{"backendRefs": [{"name": "serve", "port": 8000}], **rule}]},
    }


def gateway(**listener: Any) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "spec": {
            "gatewayClassName": "class",
            "listeners": [{"name": "http", "port": 443, "protocol": "HTTPS", **listener}],
        },
    }


def test_a_custom_resource_gets_its_defaults(shared: Cluster) -> None:
    assert tried(shared, route())["spec"]["rules"][0]["matches"] == [
        {"path": {"type": "PathPrefix", "value": "/"}}
    ]
    service = examples.ray_service()
    del service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minReplicas"]
    kept = tried(shared, service)
    assert kept["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minReplicas"] == 0


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (
            route(timeouts={"request": "1s", "backendRequest": "2s"}),
            "backendRequest timeout cannot be longer than request timeout",
        ),
        (route(timeouts={"request": "5 minutes"}), "does not match"),
        (
            route(matches=[{"path": {"type": "PathPrefix", "value": "v1"}}]),
            "value must be an absolute path and start with '/'",
        ),
        (
            route(filters=[{"type": "RequestRedirect", "requestRedirect": {}}]),
            "RequestRedirect filter must not be used together with backendRefs",
        ),
        (
            gateway(tls={"certificateRefs": [{"name": "tls"}], "mode": "Passthrough"}),
            "tls mode must be Terminate for protocol HTTPS",
        ),
        (gateway(tls={"mode": "Terminate"}), "certificateRefs or options must be specified"),
        (gateway(port=0), "0 is less than the minimum of 1"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_rules_of_a_custom_resource(shared: Cluster, obj: Object, words: str) -> None:
    assert words in refused(shared, copy.deepcopy(obj) | {"metadata": {"namespace": "mistral"}})


def test_what_such_rules_allow(shared: Cluster) -> None:
    tried(shared, route(timeouts={"request": "0s", "backendRequest": "0s"}))
    tried(shared, gateway(tls={"certificateRefs": [{"name": "tls"}]}))
    options = {"example.org/of": "some"}
    tried(shared, gateway(tls={"certificateRefs": [{"name": "tls"}], "options": options}))


def test_a_rule_on_changes_sees_the_old_value(shared: Cluster) -> None:
    service = examples.ray_service("managed")
    service["spec"]["managedBy"] = "ray.io/kuberay-operator"
    kind = shared.api.kind_of("ray.io/v1", "RayService")
    assert kind is not None
    made = shared.create(service)
    changed = copy.deepcopy(made)
    del changed["metadata"]["resourceVersion"]
    changed["spec"]["managedBy"] = "kueue.x-k8s.io/multikueue"
    with pytest.raises(ApiError, match="the managedBy field is immutable"):
        shared.api.update(kind, "mistral", "managed", changed)


def test_every_rule_of_the_published_definitions_can_be_read() -> None:
    def rules(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(rules, schema))
        if not isinstance(schema, dict):
            return set()
        own = schema.get("x-kubernetes-validations", ())
        found = {each["rule"] for each in own if isinstance(own, list)}
        return found.union(*map(rules, schema.values()))

    found = rules(list(published_crds()))
    assert len(found) > 60
    for rule in found:
        assert program(rule) is not None


def test_two_items_of_one_key_are_refused(shared: Cluster) -> None:
    service = copy.deepcopy(examples.REDIS_SERVICE)
    service["spec"]["ports"] *= 2
    assert "Duplicate value" in refused(shared, service)


def test_fields_below_unknown_ones_are_not_named_again() -> None:
    schema = {"properties": {"known": {"type": "string"}}, "type": "object"}
    kept, unknown = pruned(schema, {"known": "a", "other": {"below": [1]}})
    assert (kept, unknown) == ({"known": "a"}, ["other"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o["spec"].update(serviceName="other"), "spec.serviceName"),
        (
            lambda o: (
                o["spec"]["selector"]["matchLabels"].update(app="b")
                or o["spec"]["template"]["metadata"]["labels"].update(app="b")
            ),
            "spec.selector",
        ),
    ],
)
def test_what_may_never_change(change: Callable[[Object], Any], words: str) -> None:
    cluster = Cluster()
    cluster.create(examples.NAMESPACE)
    made = cluster.create(copy.deepcopy(examples.REDIS))
    del made["metadata"]["resourceVersion"]
    change(made)
    kind = cluster.api.kind_of("apps/v1", "StatefulSet")
    assert kind is not None
    with pytest.raises(ApiError, match=f"{words}: .*field is immutable"):
        cluster.api.update(kind, "mistral", "redis", made)


def test_annotations_have_an_end(shared: Cluster) -> None:
    config_map: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"annotations": {"a": "x" * 262_144}},
    }
    assert "may not be more than 262144 bytes" in refused(shared, config_map)


@pytest.mark.parametrize("name", ["Upper", "under_score", "a" * 254, "-a"])
def test_names_that_no_object_may_have(shared: Cluster, name: str) -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    assert "metadata.name" in refused(shared, obj)


def test_pod_security() -> None:
    pod = {"containers": [examples.container("a", "image:1")]}
    assert violations("restricted", pod) == []
    bare: Object = {"containers": [{"name": "a", "image": "image:1"}]}
    assert violations("baseline", bare) == []
    assert [each.split(" ")[0] for each in violations("restricted", bare)] == [
        "allowPrivilegeEscalation",
        "unrestricted",
        "runAsNonRoot",
        "seccompProfile",
    ]
    of_node = pod | {"hostNetwork": True, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
    assert len(violations("baseline", of_node)) == 2
    assert len(violations("restricted", of_node)) == 3
    assert violations("privileged", of_node) == []
    # What the pod says holds for containers that say nothing.
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    inside = bare["containers"][0] | {"securityContext": own}
    whole = {"securityContext": context, "containers": [inside]}
    assert violations("restricted", whole) == []

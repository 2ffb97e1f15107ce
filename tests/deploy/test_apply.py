"""serving/deploy/apply.py: who owns what."""

from typing import Any

from serving.deploy.apply import adopted, stripped

Object = dict[str, Any]


def entry(manager: str, operation: str, fields: Object, **more: str) -> Object:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def test_fields_of_an_apply_on_the_clients_side_become_those_of_the_servers() -> None:
    client = entry("kubectl-client-side-apply", "Update", {"f:spec": {"f:a": {}}})
    operator = entry("kuberay-operator", "Update", {"f:status": {}}, subresource="status")
    assert adopted([client, operator]) == [
        entry("kubectl", "Apply", {"f:spec": {"f:a": {}}}),
        operator,
    ]


def test_they_join_what_the_server_has_already() -> None:
    client = entry("kubectl-client-side-apply", "Update", {"f:spec": {"f:a": {}}})
    server = entry("kubectl", "Apply", {"f:spec": {"f:b": {}}})
    (joined,) = adopted([client, server])
    assert (joined["manager"], joined["operation"]) == ("kubectl", "Apply")
    assert joined["fieldsV1"] == {"f:spec": {"f:a": {}, "f:b": {}}}


def test_others_stay_as_they_are() -> None:
    others = [entry("kubectl", "Apply", {"f:spec": {}}), entry("kubectl-edit", "Update", {})]
    assert adopted(others) == others


def test_what_the_server_keeps_is_no_part_of_what_is_wanted() -> None:
    kept = {"uid": "u", "resourceVersion": "7", "managedFields": [], "finalizers": ["f"]}
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    obj = {
        "kind": "A",
        "metadata": {"name": "a", "annotations": annotations, **kept},
        "spec": {"b": 1},
        "status": {"c": 2},
    }
    assert stripped(obj) == {"kind": "A", "metadata": {"name": "a"}, "spec": {"b": 1}}

"""The real `kubernetes` client against the test server, and what a test can have go wrong."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import (
    ApiException,
    ApiextensionsV1Api,
    AppsV1Api,
    AuthorizationV1Api,
    BatchV1Api,
    NetworkingV1Api,
    PolicyV1Api,
    RbacAuthorizationV1Api,
    SchedulingV1Api,
    StorageV1Api,
    VersionApi,
)
from kubernetes.dynamic import DynamicClient
from kubernetes.watch import Watch

from tests.cluster import examples
from tests.cluster.cluster import Cluster
from tests.cluster.examples import RAY_SERVICES, conditions, serve
from tests.k8s.manifests import base

Object = dict[str, Any]


def test_objects_are_made_read_changed_and_deleted(core: Any) -> None:
    body = {"metadata": {"name": "settings", "labels": {"a": "1"}}, "data": {"key": "old"}}
    core.create_namespaced_config_map("default", body)
    found = core.read_namespaced_config_map("settings", "default")
    found.data["key"] = "new"
    changed = core.replace_namespaced_config_map("settings", "default", found)
    assert int(changed.metadata.resource_version) > int(found.metadata.resource_version)
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("settings", "default", found)
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    patched = core.patch_namespaced_config_map("settings", "default", {"data": {"key": None}})
    assert not patched.data
    assert len(core.list_namespaced_config_map("default", label_selector="a in (1,2)").items) == 1
    assert not core.list_namespaced_config_map("default", label_selector="a!=1,a").items
    core.delete_namespaced_config_map("settings", "default")
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("settings", "default")
    assert gone.value.status == 404


def test_the_client_can_read_whatever_there_is(client: Any, core: Any, cluster: Cluster) -> None:
    """Its models refuse an answer that lacks what Kubernetes always says."""
    cluster.kubelet.broken_images.add("redis:7")
    for each in base().objects:
        cluster.create(each)
    lists = [
        core.list_namespace(),
        core.list_node(),
        core.list_pod_for_all_namespaces(),
        core.list_event_for_all_namespaces(),
        core.list_service_for_all_namespaces(),
        core.list_service_account_for_all_namespaces(),
        core.list_persistent_volume_claim_for_all_namespaces(),
        core.list_resource_quota_for_all_namespaces(),
        AppsV1Api(client).list_stateful_set_for_all_namespaces(),
        BatchV1Api(client).list_job_for_all_namespaces(),
        PolicyV1Api(client).list_pod_disruption_budget_for_all_namespaces(),
        NetworkingV1Api(client).list_network_policy_for_all_namespaces(),
        RbacAuthorizationV1Api(client).list_role_for_all_namespaces(),
        SchedulingV1Api(client).list_priority_class(),
        StorageV1Api(client).list_storage_class(),
        ApiextensionsV1Api(client).list_custom_resource_definition(),
    ]
    assert all(found.items for found in lists)


@pytest.fixture
def resources(client: Any, tmp_path: Path) -> Any:
    """What the dynamic client finds out; it leaves a file of that, by default in /tmp."""
    dynamic: Any = DynamicClient
    return dynamic(client, cache_file=str(tmp_path / "resources.json")).resources


def test_server_side_apply_knows_owners(resources: Any) -> None:
    settings = resources.get(api_version="v1", kind="ConfigMap")

    def apply(manager: str, data: dict[str, str], force: bool = False) -> Object:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": data,
        }
        done = settings.server_side_apply(
            body=body, namespace="default", field_manager=manager, force_conflicts=force
        )
        found: Object = done.to_dict()["data"]
        return found

    assert apply("one", {"a": "1", "b": "1"}) == {"a": "1", "b": "1"}
    assert apply("two", {"c": "2"}) == {"a": "1", "b": "1", "c": "2"}
    with pytest.raises(ApiException) as conflict:
        apply("two", {"a": "2", "c": "2"})
    assert conflict.value.status == 409
    assert 'conflict with "one": .data.a' in json.loads(conflict.value.body or "")["message"]
    assert apply("two", {"a": "2", "c": "2"}, force=True)["a"] == "2"
    # What a manager no longer states goes, unless another states it too.
    assert apply("one", {"c": "2"}) == {"a": "2", "c": "2"}
    assert apply("two", {"a": "2"}) == {"a": "2", "c": "2"}


def test_a_dry_run_shows_what_an_apply_would_make(resources: Any, cluster: Cluster) -> None:
    serve(cluster)
    services = resources.get(api_version="ray.io/v1", kind="RayService")
    wanted = examples.ray_service()
    wanted["spec"]["rayClusterConfig"]["rayVersion"] = "2.61.0"
    how = {"namespace": "mistral", "field_manager": "deploy", "force_conflicts": True}
    before = cluster.api.store.versions()
    shown = services.server_side_apply(body=wanted, dry_run="All", **how).to_dict()
    assert shown["spec"]["rayClusterConfig"]["rayVersion"] == "2.61.0"
    assert cluster.api.store.versions() == before
    services.server_side_apply(body=wanted, **how)
    kept = services.get(name="mistral", namespace="mistral").to_dict()
    assert kept["spec"] == shown["spec"]
    assert conditions(kept)["Ready"] == "True"


def test_a_probe_goes_through_the_servers_proxy(core: Any, cluster: Cluster) -> None:
    serve(cluster)
    asked: list[tuple[str, str]] = []

    def answer(method: str, path: str, body: bytes) -> tuple[int, str]:
        asked.append((method, path))
        return 200, "ready"

    cluster.server.proxied["mistral", "services", "mistral-serve-svc:8000"] = answer
    got = core.connect_get_namespaced_service_proxy_with_path(
        "mistral-serve-svc:8000", "mistral", "v1/models"
    )
    assert (got, asked) == ("ready", [("GET", "/v1/models")])
    with pytest.raises(ApiException) as nobody:
        core.connect_get_namespaced_service_proxy_with_path("redis:6379", "mistral", "ping")
    assert nobody.value.status == 503


def test_a_field_that_nobody_knows_is_refused_or_warned_of(custom: Any, cluster: Cluster) -> None:
    cluster.create(examples.NAMESPACE)
    wrong = examples.ray_service()
    wrong["spec"]["serveConfig"] = ""
    with pytest.raises(ApiException) as refused:
        custom.create_namespaced_custom_object(
            **RAY_SERVICES, body=wrong, field_validation="Strict"
        )
    assert 'strict decoding error: unknown field \\"spec.serveConfig\\"' in str(refused.value.body)
    made = custom.create_namespaced_custom_object(**RAY_SERVICES, body=wrong)
    assert "serveConfig" not in made["spec"]


def test_status_is_written_by_its_own_path_alone(custom: Any, cluster: Cluster) -> None:
    serve(cluster)
    found = custom.get_namespaced_custom_object(**RAY_SERVICES, name="mistral")
    found["status"] = {"serviceStatus": "Restarting"}
    kept = custom.replace_namespaced_custom_object(**RAY_SERVICES, name="mistral", body=found)
    assert kept["status"]["serviceStatus"] == "Running"


def test_what_is_denied_is_refused_and_reviewed_so(
    core: Any, client: Any, cluster: Cluster
) -> None:
    cluster.faults.denied.add(("list", "pods", "default"))
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_pod("default")
    assert refused.value.status == 403
    assert 'cannot list resource \\"pods\\"' in str(refused.value.body)
    core.list_namespaced_pod("kube-system")
    reviews: Any = AuthorizationV1Api(client)

    def may(verb: str, namespace: str) -> bool:
        asked = {"verb": verb, "resource": "pods", "namespace": namespace}
        answer = reviews.create_self_subject_access_review({"spec": {"resourceAttributes": asked}})
        return bool(answer.status.allowed)

    assert not may("list", "default")
    assert may("list", "kube-system")
    assert may("get", "default")


def test_a_watch_sees_changes_ends_when_lost_and_is_told_what_is_too_old(
    core: Any, cluster: Cluster
) -> None:
    start = core.list_namespaced_config_map("default").metadata.resource_version
    seen: list[tuple[str, str]] = []
    both = threading.Event()

    def follow() -> None:
        stream = core.list_namespaced_config_map(
            "default", watch=True, resource_version=start, _preload_content=False
        )
        for line in stream:
            event = json.loads(line)
            seen.append((event["type"], event["object"]["metadata"]["name"]))
            if len(seen) == 2:
                both.set()

    follower = threading.Thread(target=follow)
    follower.start()
    core.create_namespaced_config_map("default", {"metadata": {"name": "a"}})
    core.create_namespaced_config_map("kube-system", {"metadata": {"name": "other"}})
    core.delete_namespaced_config_map("a", "default")
    assert both.wait(20)
    cluster.lose_watches()
    follower.join(20)
    assert not follower.is_alive()
    assert seen == [("ADDED", "a"), ("DELETED", "a")]
    cluster.api.store.forget_history()
    stream: Any = Watch().stream
    with pytest.raises(ApiException) as gone:
        list(stream(core.list_namespaced_config_map, "default", resource_version=start))
    assert gone.value.status == 410


def test_a_watch_of_some_sees_what_leaves_them_and_ends_in_time(core: Any) -> None:
    start = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", {"metadata": {"name": "a"}})
    for label in ("mine", "others"):
        core.patch_namespaced_config_map("a", "default", {"metadata": {"labels": {"of": label}}})
    stream: Any = Watch().stream
    events = stream(
        core.list_namespaced_config_map,
        "default",
        label_selector="of=mine",
        resource_version=start,
        timeout_seconds=1,
    )
    assert [event["type"] for event in events] == ["ADDED", "DELETED"]


def test_a_server_that_is_away_answers_again(client: Any, cluster: Cluster) -> None:
    cluster.faults.unavailable = 1
    version = VersionApi(client)
    with pytest.raises(ApiException) as away:
        version.get_code()
    assert away.value.status == 503
    assert version.get_code().git_version == "v1.32.0"
    cluster.api.kubernetes_version = "1.25"
    assert version.get_code().minor == "25"

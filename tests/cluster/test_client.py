"""The real `kubernetes` client against the test server, and what a test can have go wrong."""

import copy
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import (
    ApiException,
    ApiextensionsV1Api,
    AppsV1Api,
    AuthorizationV1Api,
    BatchV1Api,
    CoreV1Api,
    CustomObjectsApi,
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
from tests.cluster.kubelet import PodFault
from tests.k8s.manifests import base

Object = dict[str, Any]
RAY = {"group": "ray.io", "version": "v1", "namespace": "mistral"}
SERVICES = RAY | {"plural": "rayservices"}


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    with cluster.client() as made:
        yield made


@pytest.fixture
def core(client: Any) -> Any:
    return CoreV1Api(client)


@pytest.fixture
def custom(client: Any) -> Any:
    return CustomObjectsApi(client)


def serve(cluster: Cluster) -> None:
    for each in examples.SERVICE:
        cluster.create(copy.deepcopy(each))


def conditions(service: Object) -> dict[str, str]:
    return {each["type"]: each["status"] for each in service["status"]["conditions"]}


def waiting(core: Any, labels: str) -> set[tuple[str, str]]:
    """Why the containers of these pods do not run."""
    pods = core.list_namespaced_pod("mistral", label_selector=labels).items
    statuses = [status for pod in pods for status in pod.status.container_statuses or ()]
    return {(s.state.waiting.reason, s.state.waiting.message) for s in statuses if s.state.waiting}


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
        custom.create_namespaced_custom_object(**SERVICES, body=wrong, field_validation="Strict")
    assert 'strict decoding error: unknown field \\"spec.serveConfig\\"' in str(refused.value.body)
    made = custom.create_namespaced_custom_object(**SERVICES, body=wrong)
    assert "serveConfig" not in made["spec"]


def test_status_is_written_by_its_own_path_alone(custom: Any, cluster: Cluster) -> None:
    serve(cluster)
    found = custom.get_namespaced_custom_object(**SERVICES, name="mistral")
    found["status"] = {"serviceStatus": "Restarting"}
    kept = custom.replace_namespaced_custom_object(**SERVICES, name="mistral", body=found)
    assert kept["status"]["serviceStatus"] == "Running"


def test_a_service_gets_ready_and_is_upgraded_beside_the_old_one(
    custom: Any, core: Any, cluster: Cluster
) -> None:
    serve(cluster)
    service = custom.get_namespaced_custom_object(**SERVICES, name="mistral")
    assert conditions(service) == {"Ready": "True", "UpgradeInProgress": "False"}
    old = service["status"]["activeServiceStatus"]["rayClusterName"]

    # The new one cannot be pulled: the old one serves on.
    cluster.kubelet.broken_images.add("ray:2.61.0")
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    groups[0]["template"]["spec"]["containers"][0]["image"] = "ray:2.61.0"
    custom.replace_namespaced_custom_object(**SERVICES, name="mistral", body=service)
    service = custom.get_namespaced_custom_object(**SERVICES, name="mistral")
    assert conditions(service) == {"Ready": "True", "UpgradeInProgress": "True"}
    assert service["status"]["activeServiceStatus"]["rayClusterName"] == old
    new = service["status"]["pendingServiceStatus"]["rayClusterName"]
    assert waiting(core, f"ray.io/cluster={new}") == {
        ("ImagePullBackOff", 'Back-off pulling image "ray:2.61.0"')
    }

    cluster.kubelet.broken_images.clear()
    cluster.reconcile()
    service = custom.get_namespaced_custom_object(**SERVICES, name="mistral")
    assert conditions(service) == {"Ready": "True", "UpgradeInProgress": "False"}
    assert service["status"]["activeServiceStatus"]["rayClusterName"] == new
    front = core.read_namespaced_service("mistral-serve-svc", "mistral")
    assert front.spec.selector["ray.io/cluster"] == new
    assert not core.list_namespaced_pod("mistral", label_selector=f"ray.io/cluster={old}").items


def test_a_changed_serve_config_is_rolled_out_in_place_as_far_as_it_works(
    custom: Any, cluster: Cluster
) -> None:
    serve(cluster)
    cluster.kuberay.judge = lambda application, _: (
        ("DEPLOY_FAILED", "no such model") if application["name"] == "broken" else ("RUNNING", "")
    )
    before = custom.get_namespaced_custom_object(**SERVICES, name="mistral")["status"]
    patch = {"spec": {"serveConfigV2": "applications:\n- name: broken\n"}}
    custom.patch_namespaced_custom_object(**SERVICES, name="mistral", body=patch)
    after = custom.get_namespaced_custom_object(**SERVICES, name="mistral")
    assert conditions(after) == {"Ready": "False", "UpgradeInProgress": "False"}
    active = after["status"]["activeServiceStatus"]
    assert active["rayClusterName"] == before["activeServiceStatus"]["rayClusterName"]
    assert active["applicationStatuses"]["broken"]["message"] == "no such model"


def test_a_pod_without_room_says_what_it_waits_for(
    core: Any, custom: Any, cluster: Cluster
) -> None:
    cluster.create(examples.NAMESPACE)
    cluster.create(examples.ray_service(gpus="16"))
    (pod,) = core.list_namespaced_pod("mistral", label_selector="ray.io/group=gpu").items
    (condition,) = pod.status.conditions
    assert condition.reason == "Unschedulable"
    assert condition.message == "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    events = core.list_namespaced_event(
        "mistral", field_selector=f"involvedObject.name={pod.metadata.name}"
    ).items
    assert [event.reason for event in events] == ["FailedScheduling"]
    cluster.add_node("gpu-2", gpus=16)
    pod = core.read_namespaced_pod(pod.metadata.name, "mistral")
    assert (pod.status.phase, pod.spec.node_name) == ("Running", "gpu-2")


def test_a_quota_refuses_what_it_has_no_room_for(core: Any, cluster: Cluster) -> None:
    cluster.create(examples.NAMESPACE)
    hard = {"requests.nvidia.com/gpu": "1", "pods": "9"}
    core.create_namespaced_resource_quota(
        "mistral", {"metadata": {"name": "limit"}, "spec": {"hard": hard}}
    )
    cluster.create(examples.ray_service(gpus="2"))
    why = "exceeded quota: limit, requested: requests.nvidia.com/gpu=2, used"
    events = core.list_namespaced_event("mistral").items
    assert any(why in event.message for event in events)
    status = core.read_namespaced_resource_quota("limit", "mistral").status
    assert status.used == {"requests.nvidia.com/gpu": "0", "pods": "1"}


def test_pods_do_what_a_test_says(core: Any, cluster: Cluster) -> None:
    why = "back-off 40s restarting failed container"
    crash = PodFault({"app": "redis"}, "CrashLoopBackOff", why)
    cluster.kubelet.faults.append(crash)
    serve(cluster)
    assert waiting(core, "app=redis") == {("CrashLoopBackOff", why)}
    with pytest.raises(ApiException) as no_log:
        core.read_namespaced_pod_log("redis-0", "mistral")
    assert "is waiting to start: CrashLoopBackOff" in str(no_log.value.body)
    crash.phase = "Running"
    cluster.reconcile()
    (pod,) = core.list_namespaced_pod("mistral", label_selector="app=redis").items
    ready = {condition.type: condition.status for condition in pod.status.conditions}["Ready"]
    assert (pod.status.phase, ready) == ("Running", "False")


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
    stream: Any = Watch().stream  # type: ignore[no-untyped-call]
    with pytest.raises(ApiException) as gone:
        list(stream(core.list_namespaced_config_map, "default", resource_version=start))
    assert gone.value.status == 410


def test_a_watch_of_some_sees_what_leaves_them_and_ends_in_time(core: Any) -> None:
    start = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", {"metadata": {"name": "a"}})
    for label in ("mine", "others"):
        core.patch_namespaced_config_map("a", "default", {"metadata": {"labels": {"of": label}}})
    stream: Any = Watch().stream  # type: ignore[no-untyped-call]
    events = stream(
        core.list_namespaced_config_map,
        "default",
        label_selector="of=mine",
        resource_version=start,
        timeout_seconds=1,
    )
    assert [event["type"] for event in events] == ["ADDED", "DELETED"]


def test_an_eviction_is_refused_where_a_budget_forbids_it(
    core: Any, client: Any, cluster: Cluster
) -> None:
    serve(cluster)
    budgets: Any = PolicyV1Api(client)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"ray.io/group": "gpu"}}}
    budgets.create_namespaced_pod_disruption_budget(
        "mistral", {"metadata": {"name": "workers"}, "spec": spec}
    )
    (pod,) = core.list_namespaced_pod("mistral", label_selector="ray.io/group=gpu").items
    eviction = {"metadata": {"name": pod.metadata.name}}
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_pod_eviction(pod.metadata.name, "mistral", eviction)
    assert refused.value.status == 429
    budgets.delete_namespaced_pod_disruption_budget("workers", "mistral")
    core.create_namespaced_pod_eviction(pod.metadata.name, "mistral", eviction)
    (other,) = core.list_namespaced_pod("mistral", label_selector="ray.io/group=gpu").items
    assert other.metadata.uid != pod.metadata.uid


def test_a_server_that_is_away_answers_again(client: Any, cluster: Cluster) -> None:
    cluster.faults.unavailable = 1
    version = VersionApi(client)
    with pytest.raises(ApiException) as away:
        version.get_code()
    assert away.value.status == 503
    assert version.get_code().git_version == "v1.32.0"
    cluster.api.kubernetes_version = "1.25"
    assert version.get_code().minor == "25"


def test_the_operator_is_there_as_its_chart_makes_it(client: Any, cluster: Cluster) -> None:
    cluster.add_operator("v1.6.1")
    found: Any = AppsV1Api(client).read_namespaced_deployment("kuberay-operator", "kuberay-system")
    container: Any = found.spec.template.spec.containers[0]
    assert container.image == "quay.io/kuberay/operator:v1.6.1"
    assert found.status.available_replicas == 1

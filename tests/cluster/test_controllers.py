"""What follows from objects: KubeRay's clusters, pods on nodes, quotas, evictions."""

from typing import Any

import pytest
from kubernetes.client import ApiException, AppsV1Api, PolicyV1Api

from tests.cluster import examples
from tests.cluster.cluster import Cluster
from tests.cluster.examples import RAY_SERVICES, conditions, serve
from tests.cluster.kubelet import PodFault


def waiting(core: Any, labels: str) -> set[tuple[str, str]]:
    """Why the containers of these pods do not run."""
    pods = core.list_namespaced_pod("mistral", label_selector=labels).items
    statuses = [status for pod in pods for status in pod.status.container_statuses or ()]
    return {(s.state.waiting.reason, s.state.waiting.message) for s in statuses if s.state.waiting}


def test_a_service_gets_ready_and_is_upgraded_beside_the_old_one(
    custom: Any, core: Any, cluster: Cluster
) -> None:
    serve(cluster)
    service = custom.get_namespaced_custom_object(**RAY_SERVICES, name="mistral")
    assert conditions(service) == {"Ready": "True", "UpgradeInProgress": "False"}
    old = service["status"]["activeServiceStatus"]["rayClusterName"]

    # The new one cannot be pulled: the old one serves on.
    cluster.kubelet.broken_images.add("ray:2.61.0")
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    groups[0]["template"]["spec"]["containers"][0]["image"] = "ray:2.61.0"
    custom.replace_namespaced_custom_object(**RAY_SERVICES, name="mistral", body=service)
    service = custom.get_namespaced_custom_object(**RAY_SERVICES, name="mistral")
    assert conditions(service) == {"Ready": "True", "UpgradeInProgress": "True"}
    assert service["status"]["activeServiceStatus"]["rayClusterName"] == old
    new = service["status"]["pendingServiceStatus"]["rayClusterName"]
    assert waiting(core, f"ray.io/cluster={new}") == {
        ("ImagePullBackOff", 'Back-off pulling image "ray:2.61.0"')
    }

    cluster.kubelet.broken_images.clear()
    cluster.reconcile()
    service = custom.get_namespaced_custom_object(**RAY_SERVICES, name="mistral")
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
    before = custom.get_namespaced_custom_object(**RAY_SERVICES, name="mistral")["status"]
    patch = {"spec": {"serveConfigV2": "applications:\n- name: broken\n"}}
    custom.patch_namespaced_custom_object(**RAY_SERVICES, name="mistral", body=patch)
    after = custom.get_namespaced_custom_object(**RAY_SERVICES, name="mistral")
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


def test_the_operator_is_there_as_its_chart_makes_it(client: Any, cluster: Cluster) -> None:
    cluster.add_operator("v1.6.1")
    found: Any = AppsV1Api(client).read_namespaced_deployment("kuberay-operator", "kuberay-system")
    container: Any = found.spec.template.spec.containers[0]
    assert container.image == "quay.io/kuberay/operator:v1.6.1"
    assert found.status.available_replicas == 1

"""serving/deploy/waiting.py: why a pod is not ready."""

from typing import Any

import pytest

from serving.deploy.waiting import refused, waiting

Object = dict[str, Any]


def pod(**status: Any) -> Object:
    metadata = {"name": "engine-0", "namespace": "mistral-serve", "uid": "u1"}
    return {"kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


def container(**state: Any) -> Object:
    return {"name": "ray-worker", "image": "r/i:1", "restartCount": 3, "state": state}


def held(reason: str, message: str = "") -> Object:
    return pod(containerStatuses=[container(waiting={"reason": reason, "message": message})])


def event(reason: str, message: str, kind: str = "Warning", at: str = "2026-01-01T00:00:00Z",
          name: str = "engine-0", uid: str = "u1") -> Object:  # fmt: skip
    about = {"name": name, "uid": uid}
    return {"involvedObject": about, "type": kind, "reason": reason, "message": message,
            "lastTimestamp": at}  # fmt: skip


def unscheduled(message: str) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    return pod(phase="Pending", conditions=[condition])


@pytest.mark.parametrize(
    ("found", "events", "why", "fix"),
    [
        (unscheduled("0/3 nodes: 3 Insufficient nvidia.com/gpu."), [],
         "waits for a node with enough GPUs: 0/3 nodes", "kubectl get nodes -L nvidia.com"),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), [],
         "waits for storage", "describe pvc"),
        (unscheduled("0/3 nodes: 3 node(s) had untolerated taint {a: b}."), [],
         "waits for a node: 0/3 nodes", "describe pod engine-0"),
        (held("ImagePullBackOff", 'Back-off pulling image "r/i:1"'),
         [event("Failed", 'Failed to pull image "r/i:1": 401 Unauthorized'),
          event("BackOff", 'Back-off pulling image "r/i:1"', at="2026-01-01T00:00:09Z")],
         "cannot pull its image: Failed to pull image \"r/i:1\": 401 Unauthorized",
         "imagePullSecrets"),
        (held("CreateContainerConfigError", 'secret "ray-auth-token" not found'), [],
         'cannot start ray-worker: secret "ray-auth-token" not found', "deploy/secrets.sh"),
        (held("ContainerCreating"), [event("FailedMount", "no such configmap")],
         "cannot mount its volume: no such configmap", "describe pod"),
        (pod(phase="Failed", containerStatuses=[container(terminated={"exitCode": 1})]), [],
         "has failed: Error, exit code 1", "logs engine-0"),
        (pod(phase="Running", containerStatuses=[container(running={})]),
         [event("Unhealthy", "Readiness probe failed: 503")],
         "is running and not ready: Readiness probe failed: 503", "logs engine-0"),
        (pod(phase="Pending", initContainerStatuses=[
            {"name": "wait-for-weights", "state": {"running": {}}}]), [],
         "waits for the weights", "logs engine-0 -c wait-for-weights"),
        (pod(phase="Pending"), [event("Pulling", "Pulling image", "Normal")],
         "is starting: Pulling image", "describe pod"),
    ],
)  # fmt: skip
def test_the_reason_is_said_with_what_helps(
    found: Object, events: list[Object], why: str, fix: str
) -> None:
    result = waiting(found, events)
    assert result is not None
    assert result.why.startswith(why)
    assert fix in result.fix


def test_a_container_killed_for_memory_names_the_limit_to_raise() -> None:
    crashed = container(waiting={"reason": "CrashLoopBackOff"})
    crashed["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    result = waiting(pod(containerStatuses=[crashed]), [])
    assert result is not None
    assert "raise limits.memory" in result.why
    assert result.fix.endswith("--previous")


def test_a_pod_that_ends_is_given_all_its_time() -> None:
    ending = pod(phase="Running")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    result = waiting(ending, [])
    assert result is not None
    assert result.patience_s is None


@pytest.mark.parametrize("status", [{"phase": "Running"}, {"phase": "Pending"}])
@pytest.mark.parametrize("ending", [True, False])
def test_a_pod_of_a_node_that_is_gone_is_told_from_one_that_takes_its_time(
    status: Object, ending: bool
) -> None:
    """KubeRay makes no other pod while it is there (ray-project/kuberay#4078)."""
    left = pod(**status)
    left["spec"]["nodeName"] = "gpu-0"
    if ending:
        left["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    result = waiting(left, [], {"gpu-0"})
    assert result is not None
    assert "is on gpu-0, which does not answer" in result.why
    assert "kubectl taint nodes gpu-0 node.kubernetes.io/out-of-service" in result.fix


@pytest.mark.parametrize(
    "status",
    [{"phase": "Succeeded"}, {"conditions": [{"type": "Ready", "status": "True"}]}],
)
def test_a_pod_that_is_ready_or_done_waits_for_nothing(status: Object) -> None:
    assert waiting(pod(**status), []) is None


def test_an_event_of_an_earlier_pod_of_that_name_does_not_count() -> None:
    result = waiting(pod(phase="Running"), [event("Unhealthy", "old news", uid="u0")])
    assert result is not None
    assert "old news" not in result.why


def test_what_a_controller_could_not_make_is_its_last_word_on_it() -> None:
    cluster = {"kind": "RayCluster", "metadata": {"name": "c", "namespace": "n", "uid": "u2"}}
    quota = event("FailedToCreateWorkerPod", "exceeded quota", name="c", uid="u2")
    (found,) = refused([cluster], [quota])
    assert found.why == "cannot be acted on: exceeded quota"
    later = event("CreatedWorkerPod", "done", name="c", uid="u2", at="2026-01-01T00:01:00Z")
    assert list(refused([cluster], [quota, later | {"type": "Warning"}])) == []


def test_a_spec_that_kuberay_does_not_take_is_hopeless_at_once() -> None:
    service = {"kind": "RayService", "metadata": {"name": "s", "namespace": "n", "uid": "u3"}}
    invalid = event("InvalidRayServiceSpec", "no such type", name="s", uid="u3")
    (found,) = refused([service], [invalid])
    assert found.patience_s == 0

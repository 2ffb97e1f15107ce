"""Takes the service's pods off a node without breaking answers, as `kubectl drain` does."""

import time

from serving.deploy.errors import Conflict, DeployError
from serving.deploy.follow import Say
from serving.deploy.kube import Kube
from serving.deploy.objects import Object, labels_of
from serving.deploy.snapshot import is_lost
from serving.deploy.waiting import node_is_off

LOOK_EVERY_S = 5.0
_ENDED = ("Succeeded", "Failed")


def cordon(kube: Kube, node_name: str) -> None:
    """Keeps new pods off the node. Raises DeployError."""
    node = kube.get("v1", "Node", node_name)
    if node is not None and is_lost(node):
        raise DeployError(
            f"{node_name} does not answer, so its pods cannot end. If it is off, give them up: "
            f"{node_is_off(node_name)}"
        )
    if node is None:
        names = ", ".join(each["metadata"]["name"] for each in kube.find("v1", "Node"))
        raise DeployError(f"there is no node {node_name}; the nodes are: {names}")
    if not node["spec"].get("unschedulable"):
        kube.merge(node, {"spec": {"unschedulable": True}})


def pods_on(node_name: str, pods: list[Object]) -> list[Object]:
    """The pods to evict, the head last, as workers need it to start."""
    here = [
        pod
        for pod in pods
        if pod["spec"].get("nodeName") == node_name
        and (pod.get("status") or {}).get("phase") not in _ENDED
        and not _is_of_daemon_set(pod)
    ]
    return sorted(here, key=lambda pod: labels_of(pod).get("ray.io/node-type") == "head")


def _is_of_daemon_set(pod: Object) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner["kind"] == "DaemonSet" for owner in owners)


def drain(kube: Kube, namespace: str, node_name: str, timeout_s: float, say: Say) -> None:
    """Evicts one pod after the other. Each finishes its answers first, and a disruption budget
    makes the next one wait until the last has a successor. Raises DeployError.
    """
    deadline_s = time.monotonic() + timeout_s
    for pod in pods_on(node_name, kube.find("v1", "Pod", namespace)):
        name = pod["metadata"]["name"]
        refused = ""
        while True:
            try:
                kube.evict(pod)
                break
            except Conflict as error:
                if str(error) != refused:
                    refused = str(error)
                    say(f"{name} waits: {refused}")
                _wait(deadline_s, f"{name} cannot be evicted: {refused}")
        grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
        say(f"{name} is stopping, within {grace_s} s: running answers are finished first")
        while _is_there(kube, pod):
            _wait(deadline_s, f"{name} has not stopped")
        say(f"{name} is gone")


def _is_there(kube: Kube, pod: Object) -> bool:
    metadata = pod["metadata"]
    live = kube.get("v1", "Pod", metadata["name"], metadata["namespace"])
    return live is not None and live["metadata"].get("uid") == metadata.get("uid")


def _wait(deadline_s: float, late: str) -> None:
    if time.monotonic() >= deadline_s:
        raise DeployError(f"the node was not drained in time: {late}")
    time.sleep(LOOK_EVERY_S)

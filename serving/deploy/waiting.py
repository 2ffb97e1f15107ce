"""The reason why a pod is not ready, and what helps."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from serving.deploy.objects import Object, condition, is_ready

_PULL = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_INIT = {
    "wait-for-weights": "waits for the weights",
    "wait-gcs-ready": "waits for the head",
}
_SHORT_S, _LONG_S = 120, 600


@dataclass(frozen=True)
class Waiting:
    """What a pod waits for. After `patience_s` it will not recover by itself; None is for ever."""

    pod: str
    why: str
    fix: str = ""
    patience_s: float | None = None


def events_of(obj: Object, events: Iterable[Object]) -> list[Object]:
    """The events of an object, the newest last."""
    uid, name = obj["metadata"].get("uid"), obj["metadata"]["name"]
    about = [
        event
        for event in events
        if event["involvedObject"].get("name") == name
        and event["involvedObject"].get("uid") in (None, uid)
    ]
    return sorted(about, key=_last_seen)


def _last_seen(event: Object) -> str:
    return str(
        event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or ""
    )


def cannot_pull(pod: Object) -> bool:
    """Whether a container of the pod waits for an image that its node does not get."""
    states = (each.get("state") or {} for each in statuses(pod))
    return any((state.get("waiting") or {}).get("reason") in _PULL for state in states)


def node_is_off(node: str) -> str:
    """The command by which Kubernetes gives up the pods of a node, and their volumes. KubeRay makes
    no other pod before that."""
    return f"kubectl taint nodes {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


def waiting(
    pod: Object, events: Iterable[Object], lost_nodes: Collection[str] = ()
) -> Waiting | None:
    """What a pod waits for; None if it is ready or has completed."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    name, namespace = metadata["name"], metadata.get("namespace", "default")
    describe = f"kubectl -n {namespace} describe pod {name}"
    logs = f"kubectl -n {namespace} logs {name}"
    if status.get("phase") != "Succeeded" and (node := pod["spec"].get("nodeName")) in lost_nodes:
        why = f"is on {node}, which does not answer: no other pod takes its place"
        return Waiting(name, why, f"if the node is off: {node_is_off(node)}")
    if metadata.get("deletionTimestamp"):
        return Waiting(name, "is stopping: running answers are finished first", f"{logs} -f")
    if status.get("phase") == "Succeeded" or is_ready(pod):
        return None
    said = [event for event in events_of(pod, events) if event.get("type") == "Warning"]
    if status.get("phase") == "Failed":
        why = status.get("message") or _ended(statuses(pod)) or "a container exited"
        return Waiting(name, f"has failed: {why}", logs, _SHORT_S)
    unscheduled = condition(pod, "PodScheduled")
    if unscheduled.get("status") == "False":
        return _unscheduled(pod, str(unscheduled.get("message", "")), describe)
    for container in statuses(pod):
        if found := _held(name, namespace, container, said, describe):
            return found
    for container in status.get("initContainerStatuses") or ():
        if "running" in (container.get("state") or {}):
            what = _INIT.get(container["name"], f"runs {container['name']} first")
            return Waiting(name, what, f"{logs} -c {container['name']}")
    if unmounted := [e for e in said if e.get("reason") in ("FailedMount", "FailedAttachVolume")]:
        return Waiting(name, f"cannot mount its volume: {_text(unmounted[-1])}", describe, _LONG_S)
    if status.get("phase") == "Running":
        why = "is running and not ready"
        if unhealthy := [event for event in said if event.get("reason") == "Unhealthy"]:
            why += f": {_text(unhealthy[-1])}"
        return Waiting(name, why, logs)
    return Waiting(name, "is starting: " + (_newest(pod, events) or "no event yet"), describe)


def _unscheduled(pod: Object, message: str, describe: str) -> Waiting:
    name = pod["metadata"]["name"]
    if "PersistentVolumeClaim" in message or "persistentvolumeclaim" in message:
        command = f"kubectl -n {pod['metadata'].get('namespace', 'default')} describe pvc"
        return Waiting(name, f"waits for storage: {message}", command)
    if match := re.search(r"Insufficient (nvidia\.com/gpu|cpu|memory)", message):
        what = {"nvidia.com/gpu": "GPUs"}.get(match[1], match[1])
        command = "kubectl get nodes -L nvidia.com/gpu.product; kubectl describe nodes"
        return Waiting(name, f"waits for a node with enough {what}: {message}", command)
    return Waiting(name, f"waits for a node: {message or 'not scheduled yet'}", describe)


def _held(
    pod: str, namespace: str, container: Object, said: list[Object], describe: str
) -> Waiting | None:
    """The reason why a container in the state `waiting` does not run."""
    state = (container.get("state") or {}).get("waiting")
    if not state:
        return None
    reason, message = state.get("reason", ""), state.get("message", "")
    if reason in _PULL:
        pulls = [_text(event) for event in said if "pull image" in str(event.get("message"))]
        why = next((text for text in pulls if "Back-off" not in text), message or reason)
        image = container.get("image", "")
        return Waiting(
            pod,
            f"cannot pull its image: {why}",
            f"check that {image} is pushed and nodes may pull it (imagePullSecrets): {describe}",
            _SHORT_S,
        )
    if reason in _CONFIG:
        fix = describe
        if "secret" in message.lower():
            fix = f"deploy/secrets.sh creates missing secrets; kubectl -n {namespace} get secrets"
        return Waiting(pod, f"cannot start {container['name']}: {message or reason}", fix, _SHORT_S)
    if reason == "CrashLoopBackOff":
        ended = _ended([{"state": container.get("lastState") or {}}]) or message
        logs = f"kubectl -n {namespace} logs {pod} -c {container['name']} --previous"
        times = container.get("restartCount", 0)
        why = f"{container['name']} has crashed {times} times" + (f": {ended}" if ended else "")
        return Waiting(pod, why, logs, _LONG_S)
    return None


def _ended(statuses: list[Object]) -> str:
    for status in statuses:
        ended = (status.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            reason = ended.get("reason") or "Error"
            if reason == "OOMKilled":
                return "it exceeded its memory limit (OOMKilled): raise limits.memory"
            message = str(ended.get("message") or "").strip()
            return f"{reason}, exit code {ended['exitCode']}" + (f": {message}" if message else "")
    return ""


def statuses(pod: Object) -> list[Object]:
    """The states of a pod's init containers and of the others."""
    status = pod.get("status") or {}
    init = status.get("initContainerStatuses") or ()
    return [*init, *(status.get("containerStatuses") or ())]


def _newest(pod: Object, events: Iterable[Object]) -> str:
    about = events_of(pod, events)
    return _text(about[-1]) if about else ""


def _text(event: Object) -> str:
    return " ".join(str(event.get("message", "")).split())


_NOT_CREATED = re.compile(r"^FailedCreate|^FailedToCreate|^Invalid\w*Spec$|^FailedTo")


def refused(objects: Iterable[Object], events: list[Object]) -> Iterator[Waiting]:
    """The objects for which a controller could not create something, by its last event."""
    for obj in objects:
        about = [e for e in events_of(obj, events) if e.get("type") == "Warning"]
        if about and _NOT_CREATED.match(str(about[-1].get("reason"))):
            metadata, kind = obj["metadata"], obj["kind"].lower()
            describe = f"kubectl -n {metadata.get('namespace')} describe {kind} {metadata['name']}"
            invalid = str(about[-1]["reason"]).startswith("Invalid")
            yield Waiting(f"{kind} {metadata['name']}", f"cannot be acted on: {_text(about[-1])}",
                          describe, 0 if invalid else _LONG_S)  # fmt: skip

"""Scheduler and kubelets: pods get a node and run at once, unless something keeps them from it.

What does: a node, a claim, a Secret or a ConfigMap that is missing, and what a test adds to
`Kubelet.faults` and `Kubelet.broken_images`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.cluster.api import Api, now
from tests.cluster.events import record
from tests.cluster.pod_rules import containers_of
from tests.cluster.scheduling import node_for
from tests.cluster.schemas import Object

_PODS = ("", "pods")


@dataclass
class PodFault:
    """What pods with these labels, or of these whose name ends so, do instead of running.

    `phase`: Pending waits for `reason` (CrashLoopBackOff, …), Running runs but is not ready, Failed
    has ended with an error.
    """

    labels: dict[str, str]
    reason: str = ""
    message: str = ""
    phase: str = "Pending"
    restarts: int = 0
    name_end: str = ""

    def meets(self, pod: Object) -> bool:
        labels = pod["metadata"].get("labels", {})
        named = pod["metadata"]["name"].endswith(self.name_end)
        return named and all(labels.get(key) == value for key, value in self.labels.items())


@dataclass
class Kubelet:
    """A controller of an Api."""

    api: Api
    faults: list[PodFault] = field(default_factory=list)
    broken_images: set[str] = field(default_factory=set)
    # Jobs' pods succeed at once; False keeps them running.
    finish_jobs: bool = True

    def __call__(self) -> None:
        for pod in self.api.store.objects(_PODS):
            if pod["status"].get("phase") in ("Succeeded", "Failed"):
                continue
            if "nodeName" not in pod["spec"]:
                self._schedule(pod)
            if "nodeName" in pod["spec"]:
                self._run(pod)

    def _schedule(self, pod: Object) -> None:
        store = self.api.store
        namespace = pod["metadata"]["namespace"]
        why = self._unbound(pod)
        if not why:
            pods = [
                other
                for other in store.objects(_PODS)
                if other["status"].get("phase") not in ("Succeeded", "Failed")
            ]
            name, why = node_for(pod, store.objects(("", "nodes")), pods)
            if name:
                pod["spec"]["nodeName"] = name
                store.put(_PODS, pod)
                return
        record(self.api, pod, "FailedScheduling", why)
        status = {
            "phase": "Pending",
            "conditions": [_condition("PodScheduled", False, "Unschedulable", why)],
        }
        self._report(pod, status, namespace)

    def _unbound(self, pod: Object) -> str:
        for volume in pod["spec"].get("volumes", ()):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is None:
                continue
            found = self.api.store.get(
                ("", "persistentvolumeclaims"), pod["metadata"]["namespace"], claim
            )
            if found is None:
                return f'persistentvolumeclaim "{claim}" not found'
            if found["status"].get("phase") != "Bound":
                return f"pod has unbound immediate PersistentVolumeClaims: {claim}"
        return ""

    def _run(self, pod: Object) -> None:
        fault = next((fault for fault in self.faults if fault.meets(pod)), None)
        missing_volume = next(self._missing(pod, list(_volume_sources(pod))), "")
        if missing_volume:
            record(self.api, pod, "FailedMount", f"MountVolume.SetUp failed: {missing_volume}")
        statuses = []
        for _, container in containers_of({"containers": pod["spec"]["containers"]}):
            state, ready = self._state(pod, container, fault, missing_volume)
            statuses.append(
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "restartCount": fault.restarts if fault else 0,
                    "state": state,
                }
            )
        phases = {next(iter(status["state"])) for status in statuses}
        phase = "Pending" if "waiting" in phases else "Running"
        if phases == {"terminated"}:
            failed = any(status["state"]["terminated"]["exitCode"] for status in statuses)
            phase = "Failed" if failed else "Succeeded"
        ready = all(status["ready"] for status in statuses)
        conditions = [
            _condition("PodScheduled", True),
            _condition("Initialized", fault is None or fault.reason != "PodInitializing"),
            _condition("ContainersReady", ready, "" if ready else "ContainersNotReady"),
            _condition("Ready", ready, "" if ready else "ContainersNotReady"),
        ]
        status = {
            "phase": phase,
            "podIP": f"10.0.{int(pod['metadata']['uid'][:4], 16) % 250}.1",
            "conditions": conditions,
            "containerStatuses": statuses,
        }
        self._report(pod, status, pod["metadata"]["namespace"])

    def _state(
        self, pod: Object, container: Object, fault: PodFault | None, missing_volume: str
    ) -> tuple[Object, bool]:
        image = container["image"]
        if missing_volume:
            return _waiting("ContainerCreating", ""), False
        if image in self.broken_images:
            why = f'Back-off pulling image "{image}"'
            record(self.api, pod, "Failed", f'Failed to pull image "{image}": not found')
            record(self.api, pod, "BackOff", why)
            return _waiting("ImagePullBackOff", why), False
        missing = next(self._missing(pod, list(_environment_sources(container))), "")
        if missing:
            record(self.api, pod, "Failed", f"Error: {missing}")
            return _waiting("CreateContainerConfigError", missing), False
        if fault is not None and fault.phase == "Pending":
            if fault.message:
                record(self.api, pod, "BackOff", fault.message)
            return _waiting(fault.reason, fault.message), False
        if fault is not None and fault.phase == "Failed":
            ended = {"exitCode": 1, "reason": fault.reason or "Error", "message": fault.message}
            return {"terminated": ended}, False
        owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences", ())}
        if "Job" in owners and self.finish_jobs and fault is None:
            return {"terminated": {"exitCode": 0, "reason": "Completed"}}, False
        return {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}, fault is None

    def _missing(self, pod: Object, sources: list[Object]) -> Iterator[str]:
        """What the pod reads from a Secret or ConfigMap that is not there."""
        namespace = pod["metadata"]["namespace"]
        for source in sources:
            if source["optional"]:
                continue
            plural = f"{source['kind'].lower()}s"
            found = self.api.store.get(("", plural), namespace, source["name"])
            if found is None:
                yield f'{source["kind"].lower()} "{source["name"]}" not found'
                continue
            keys = {**found.get("data", {}), **found.get("binaryData", {})}
            for key in source["keys"]:
                if key not in keys:
                    yield (
                        f"couldn't find key {key} in {source['kind']} {namespace}/{source['name']}"
                    )

    def _report(self, pod: Object, status: Object, namespace: str) -> None:
        if _comparable(status) != _comparable(pod["status"]):
            kind, name = self.api.kinds[_PODS], pod["metadata"]["name"]
            self.api.update(kind, namespace, name, pod | {"status": status}, status=True)


def _waiting(reason: str, message: str) -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> Object:
    condition = {"type": kind, "status": str(holds), "lastTransitionTime": now()}
    return condition | ({"reason": reason, "message": message} if reason else {})


def _comparable(status: Object) -> Object:
    """Without the times, which differ at each look."""
    conditions = [
        {name: value for name, value in condition.items() if name != "lastTransitionTime"}
        for condition in status.get("conditions", ())
    ]
    return status | {"conditions": conditions}


def _source(kind: str, name: str, keys: list[str], optional: bool) -> Object:
    return {"kind": kind, "name": name, "keys": keys, "optional": optional}


def _environment_sources(container: Object) -> Iterator[Object]:
    for variable in container.get("env", ()):
        for field_name, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            ref = variable.get("valueFrom", {}).get(field_name)
            if ref:
                yield _source(kind, ref["name"], [ref["key"]], ref.get("optional", False))


def _volume_sources(pod: Object) -> Iterator[Object]:
    for volume in pod["spec"].get("volumes", ()):
        parts = [volume, *volume.get("projected", {}).get("sources", ())]
        for part in parts:
            for field_name, kind, name in (
                ("secret", "Secret", "secretName"),
                ("configMap", "ConfigMap", "name"),
            ):
                if field_name in part:
                    ref = part[field_name]
                    keys = [item["key"] for item in ref.get("items", ())]
                    yield _source(
                        kind, ref.get(name) or ref["name"], keys, ref.get("optional", False)
                    )

"""Takes the service off a cluster. The RayService goes first: KubeRay cleans Redis by a Job, which
needs Redis and a namespace that is not being deleted. The namespace goes last, without pods: if it
has any, Kubernetes looks at it again only after half of their grace periods, or five minutes."""

import time

from serving.deploy.apply import placed
from serving.deploy.capacity import PART_OF
from serving.deploy.errors import DeployError
from serving.deploy.follow import Say
from serving.deploy.kube import Kube, named
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object, condition, is_ending
from serving.deploy.waiting import cannot_pull

LOOK_EVERY_S = 2.0
_OURS = f"{PART_OF}=mistral-serve"
_WORKERS = f"{_OURS},ray.io/node-type=worker"
_REDIS = "ray.io/gcs-ft-redis-cleanup-finalizer"
"""KubeRay keeps a RayCluster by it until its state is out of Redis."""
_CLEANUP = "ray.io/cluster={},ray.io/node-type=redis-cleanup"
_RELEASE = """patch {} {} --type=merge -p '{{"metadata":{{"finalizers":null}}}}'"""


def delete(kube: Kube, manifests: Manifests, timeout_s: float, say: Say) -> None:
    """Deletes the objects of the manifests and returns when they are gone. Raises DeployError."""
    deadline_s = time.monotonic() + timeout_s
    service = placed(kube, manifests.service)
    homes = manifests.of_kind("Namespace")
    # The namespace's controller would come back later for claims too, which wait for their pods.
    claims = kube.find("v1", "PersistentVolumeClaim", manifests.namespace, _OURS) if homes else []
    others = [
        placed(kube, obj)
        for obj in manifests.objects[::-1]
        if obj is not manifests.service and obj not in homes
    ] + claims
    for objects in ([service], others, homes):
        for obj in objects:
            kube.delete(obj)
        shown: list[str] = []
        while left := [obj for obj in objects if kube.live(obj)] or (
            kube.find("v1", "Pod", manifests.namespace, _OURS) if objects is others else []
        ):
            _release(kube, manifests.namespace, say)
            _end_waiting_workers(kube, manifests.namespace)
            names = [named(obj) for obj in left]
            if names != shown:
                say(f"waits for {', '.join(names)} to end")
                shown = names
            if time.monotonic() >= deadline_s:
                raise DeployError(_late(kube, left, manifests.namespace))
            time.sleep(LOOK_EVERY_S)
        if objects:
            say(f"{', '.join(named(obj) for obj in objects)} gone")


def _release(kube: Kube, namespace: str, say: Say) -> None:
    """Lets RayClusters go that KubeRay cannot clean Redis of: it can create no Job in a namespace
    that is being deleted, and its Job cannot run with an image that there is not. Their state goes
    with the volume of Redis.
    """
    home = kube.get("v1", "Namespace", namespace)
    going = home is not None and is_ending(home)
    for cluster in kube.find("ray.io/v1", "RayCluster", namespace):
        metadata = cluster["metadata"]
        finalizers = metadata.get("finalizers") or []
        if not is_ending(cluster) or _REDIS not in finalizers:
            continue
        jobs = kube.find("v1", "Pod", namespace, _CLEANUP.format(metadata["name"]))
        if going or any(map(cannot_pull, jobs)):
            why = "in this namespace any more" if going else "with an image that cannot be pulled"
            say(f"{named(cluster)} is let go: KubeRay cannot clean Redis {why}")
            rest = [each for each in finalizers if each != _REDIS]
            kube.merge(cluster, {"metadata": {"finalizers": rest}})


def _end_waiting_workers(kube: Kube, namespace: str) -> None:
    """Ends the workers that wait for a head. The shell of their init container ignores the signal
    to end, so that Kubernetes would wait for a grace period in which they have no answer to finish.
    """
    for pod in kube.find("v1", "Pod", namespace, _WORKERS):
        waits = condition(pod, "Initialized").get("status") == "False"
        if waits and pod["metadata"].get("deletionGracePeriodSeconds", 0) > 1:
            kube.delete(pod, grace_s=1)


def _late(kube: Kube, left: list[Object], namespace: str) -> str:
    found = kube.find("ray.io/v1", "RayCluster", namespace)
    held = [obj for obj in [*left, *found] if obj["kind"].startswith("Ray")]
    lines = [f"not gone in time: {', '.join(map(named, left))}"]
    if pods := [pod["metadata"]["name"] for pod in kube.find("v1", "Pod", namespace)]:
        lines.append(f"Pods finish running answers before they end: {', '.join(pods)}")
    if held:
        lines.append("If there are none any more, or KubeRay does not run, let them go by hand:")
        for obj in held:
            command = _RELEASE.format(obj["kind"].lower(), obj["metadata"]["name"])
            lines.append(f"  kubectl -n {namespace} {command}")
    return "\n".join(lines)

"""The pods of the manifests, and what those need: resources, secrets, claims, images."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from serving.deploy.objects import Object
from serving.deploy.quantity import quantity

GPU = "nvidia.com/gpu"
_AUTOSCALER_RESOURCES = {
    "requests": {"cpu": "500m", "memory": "512Mi"},
    "limits": {"memory": "512Mi"},
}
"""KubeRay 1.7's defaults for the autoscaler's container."""


@dataclass(frozen=True)
class Pods:
    """Equal pods of `owner`, such as "engine"; `count` is their number, or the least of a group."""

    owner: str
    count: int
    spec: Object
    of_cluster: bool = False
    """Whether they belong to the Ray cluster, of which an upgrade starts a second."""

    @property
    def usage(self) -> Counter[str]:
        """Requests and limits of one pod, named as in a quota."""
        return usage(self.spec)

    @property
    def gpus(self) -> int:
        """The GPUs of one pod."""
        return int(self.usage[f"requests.{GPU}"])


def wanted(objects: Iterable[Object]) -> list[Pods]:
    return [pods for obj in objects for pods in _of(obj)]


def _of(obj: Object) -> Iterator[Pods]:
    spec, name = obj.get("spec") or {}, obj["metadata"]["name"]
    match obj["kind"]:
        case "RayService":
            yield from _of_cluster(spec.get("rayClusterConfig") or {})
        case "Deployment" | "StatefulSet":
            yield Pods(name, int(spec.get("replicas", 1)), spec["template"]["spec"])
        case "Job":
            yield Pods(name, 1, spec["template"]["spec"])


def _of_cluster(cluster: Object) -> Iterator[Pods]:
    yield Pods("head", 1, head_spec(cluster), of_cluster=True)
    for group in cluster.get("workerGroupSpecs") or ():
        least = max(int(group.get("replicas") or 0), int(group.get("minReplicas") or 0))
        count = least * int(group.get("numOfHosts") or 1)
        yield Pods(group["groupName"], count, group["template"]["spec"], of_cluster=True)


def head_spec(cluster: Object) -> Object:
    """The head's pod, with the autoscaler's container that KubeRay adds."""
    spec: Object = cluster["headGroupSpec"]["template"]["spec"]
    if not cluster.get("enableInTreeAutoscaling"):
        return spec
    options = cluster.get("autoscalerOptions") or {}
    copied = ("image", "env", "volumeMounts", "securityContext", "resources")
    sidecar = {
        "name": "autoscaler",
        "image": spec["containers"][0].get("image"),
        "resources": _AUTOSCALER_RESOURCES,
        **{key: options[key] for key in copied if key in options},
    }
    return spec | {"containers": [*spec["containers"], sidecar]}


def second_cluster(objects: Iterable[Object]) -> list[Pods]:
    """The pods of the second cluster that KubeRay starts for an upgrade; none if it starts none."""
    found = []
    for obj in objects:
        strategy = (obj.get("spec") or {}).get("upgradeStrategy") or {}
        if obj["kind"] == "RayService" and strategy.get("type", "NewCluster") == "NewCluster":
            found += [pods for pods in _of(obj) if pods.of_cluster]
    return found


def usage(spec: Object) -> Counter[str]:
    """The resources that a pod uses on a node and in a quota: `pods`, `requests.cpu`, …

    An init container counts if it needs more than all other containers together. Raises BadInput.
    """
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        total += _amounts(container)
    for container in spec.get("initContainers") or ():
        total |= _amounts(container)
    total["pods"] = 1
    return total


def _amounts(container: Object) -> Counter[str]:
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    requests = limits | (resources.get("requests") or {})
    amounts: dict[str, Decimal] = {
        f"{part}.{name}": quantity(value)
        for part, values in (("limits", limits), ("requests", requests))
        for name, value in values.items()
    }
    return Counter(amounts)


def containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def secrets(objects: Iterable[Object]) -> dict[str, dict[str, bool]]:
    """Names of Secrets that pods and Ray read, with their keys and whether each key must exist."""
    found: dict[str, dict[str, bool]] = {}
    for reference, is_needed in _secret_references(list(objects)):
        keys = found.setdefault(str(reference[0]), {})
        keys[reference[1]] = keys.get(reference[1], False) or is_needed
    return found


def _secret_references(node: Any) -> Iterator[tuple[tuple[str, str], bool]]:
    """The name and key of each Secret in an object, and whether it must exist."""
    if isinstance(node, list):
        for each in node:
            yield from _secret_references(each)
    elif isinstance(node, dict):
        reference = node.get("secretKeyRef")
        if isinstance(reference, dict) and "name" in reference:
            key = str(reference.get("key", ""))
            yield (reference["name"], key), not reference.get("optional", False)
        if node.get("mode") == "token" and node.get("secretName"):
            yield (node["secretName"], "auth_token"), True
        if isinstance(mounted := node.get("secret"), dict):  # a volume or a part of one
            for item in mounted.get("items") or ():
                name = str(mounted.get("secretName", mounted.get("name")))
                yield (name, item["key"]), not mounted.get("optional", False)
        for name, each in node.items():
            if name != "secretKeyRef":
                yield from _secret_references(each)


def claims(objects: Iterable[Object]) -> list[Object]:
    """PersistentVolumeClaims, those of StatefulSets among them."""
    found = []
    for obj in objects:
        if obj["kind"] == "PersistentVolumeClaim":
            found.append(obj)
        elif obj["kind"] == "StatefulSet":
            found += obj["spec"].get("volumeClaimTemplates") or ()
    return found

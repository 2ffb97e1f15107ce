"""The pods that the manifests lead to, with the labels that they have when they run."""

from collections.abc import Iterator
from dataclasses import dataclass

from serving.deploy.kube import named
from serving.deploy.manifests import Manifests, Object
from serving.deploy.pods import AUTOSCALER_RESOURCES, containers

CLEANUP = "redis-cleanup"
_CLEANUP_RESOURCES = {
    "requests": {"cpu": "200m", "memory": "256Mi"},
    "limits": {"memory": "256Mi"},
}
_COPIED_TO_AUTOSCALER = ("env", "volumeMounts", "securityContext")
WORKLOADS = ("Job", "StatefulSet", "Deployment")
_COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Pod:
    """A kind of pod. `owner` is as "RayService mistral-serve/mistral, engine"; `most` is how many
    there may be in one cluster.
    """

    owner: str
    namespace: str
    labels: dict[str, str]
    spec: Object
    most: int

    @property
    def containers(self) -> list[Object]:
        """The init containers and the others."""
        return containers(self.spec)

    @property
    def ports(self) -> dict[str, int]:
        """The numbers of its ports by their names."""
        return {name: port for each in self.containers for name, port in ports_of(each).items()}

    @property
    def component(self) -> str:
        """head, router, engine, redis or weights; "" for a pod that is not of the service."""
        return self.labels.get(_COMPONENT, "")

    @property
    def node_type(self) -> str:
        """head, worker or redis-cleanup; "" for a pod that is not of Ray."""
        return self.labels.get("ray.io/node-type", "")


def ports_of(container: Object) -> dict[str, int]:
    """The numbers of a container's ports by their names."""
    return {port.get("name", ""): port["containerPort"] for port in container.get("ports", ())}


def namespace_of(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", "default"))


def pods(manifests: Manifests) -> list[Pod]:
    """All kinds of pods of the manifests, KubeRay's own among them."""
    found = list(ray_pods(manifests.service))
    for obj in manifests.of_kind(*WORKLOADS):
        template, most = obj["spec"]["template"], obj["spec"].get("replicas", 1)
        found.append(Pod(named(obj), namespace_of(obj), _labels(template), template["spec"], most))
    return found


def _labels(template: Object) -> dict[str, str]:
    found: dict[str, str] = template.get("metadata", {}).get("labels", {})
    return found


def ray_pods(service: Object) -> Iterator[Pod]:
    """The pods that KubeRay creates, with the labels of labelPod and BuildPod in its
    controllers/ray/common/pod.go.
    """
    cluster = service["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]
    spec, ray = head["template"]["spec"], ray_container(head)
    sidecars = [_autoscaler(cluster)] if cluster.get("enableInTreeAutoscaling") else []
    with_autoscaler = spec | {"containers": [*spec["containers"], *sidecars]}
    cleanup = spec | {"containers": [ray | {"resources": _CLEANUP_RESOURCES}]}
    kinds = [("head", head, with_autoscaler, 1), (CLEANUP, head, cleanup, 1)]
    for group in cluster.get("workerGroupSpecs", ()):
        most = max_replicas(group) * group.get("numOfHosts", 1)
        kinds.append(("worker", group, group["template"]["spec"], most))
    for node_type, group, spec, most in kinds:
        labels = {
            "app.kubernetes.io/name": "kuberay",
            "app.kubernetes.io/created-by": "kuberay-operator",
            "ray.io/is-ray-node": "yes",
            **_labels(group["template"]),
            "ray.io/cluster": f"{service['metadata']['name']}-x1y2z",
            "ray.io/node-type": node_type,
            "ray.io/group": group.get("groupName", "headgroup"),
            "ray.io/serve": "true" if node_type == "worker" else "false",
        }
        owner = f"{named(service)}, {group.get('groupName', node_type)}"
        yield Pod(owner, namespace_of(service), labels, spec, most)


def _autoscaler(cluster: Object) -> Object:
    """The container that KubeRay adds to the head."""
    options = cluster.get("autoscalerOptions", {})
    return {
        "name": "autoscaler",
        "image": options.get("image", ray_container(cluster["headGroupSpec"])["image"]),
        "resources": options.get("resources", AUTOSCALER_RESOURCES),
        **{key: options[key] for key in _COPIED_TO_AUTOSCALER if key in options},
    }


def groups(service: Object, component: str) -> list[Object]:
    """The worker groups whose pods are of a component."""
    workers = service["spec"]["rayClusterConfig"].get("workerGroupSpecs", ())
    return [each for each in workers if _labels(each["template"]).get(_COMPONENT) == component]


def all_groups(cluster: Object) -> list[tuple[str, Object]]:
    """The head and the worker groups, with their names."""
    workers = [(group["groupName"], group) for group in cluster.get("workerGroupSpecs", ())]
    return [("head", cluster["headGroupSpec"]), *workers]


def ray_container(group: Object) -> Object:
    found: Object = group["template"]["spec"]["containers"][0]
    return found


def max_replicas(group: Object) -> int:
    """A group's maxReplicas, or KubeRay's default."""
    return int(group.get("maxReplicas", 2**31 - 1))


def upgraded_in_steps(service: Object) -> bool:
    """Whether an upgrade moves clients gradually, by a Gateway that KubeRay makes."""
    strategy = service["spec"].get("upgradeStrategy", {})
    return bool(strategy.get("type") == "NewClusterWithIncrementalUpgrade")

"""The pods that the manifests lead to, with the labels that they have when they run."""

from collections.abc import Iterator
from dataclasses import dataclass

from serving.deploy.kube import named
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.pods import containers, head_spec

CLEANUP = "redis-cleanup"
_CLEANUP_RESOURCES = {
    "requests": {"cpu": "200m", "memory": "256Mi"},
    "limits": {"memory": "256Mi"},
}
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
    return dict(template.get("metadata", {}).get("labels", {}))


def ray_pods(service: Object) -> Iterator[Pod]:
    """The pods that KubeRay creates, with the labels of labelPod and BuildPod in its
    controllers/ray/common/pod.go.
    """
    cluster = service["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]
    ray = ray_container(head) | {"resources": _CLEANUP_RESOURCES}
    cleanup = head["template"]["spec"] | {"containers": [ray]}
    kinds = [("head", head, head_spec(cluster), 1), (CLEANUP, head, cleanup, 1)]
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


def groups(service: Object, component: str) -> list[Object]:
    """The worker groups whose pods are of a component."""
    workers = service["spec"]["rayClusterConfig"].get("workerGroupSpecs", ())
    return [each for each in workers if _labels(each["template"]).get(_COMPONENT) == component]


def all_groups(service: Object) -> list[tuple[str, Object]]:
    """The head and the worker groups, each with the `owner` of its pods."""
    cluster = service["spec"]["rayClusterConfig"]
    found = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())]
    return [(f"{named(service)}, {group.get('groupName', 'head')}", group) for group in found]


def ray_container(group: Object) -> Object:
    return dict(group["template"]["spec"]["containers"][0])


def max_replicas(group: Object) -> int:
    """A group's maxReplicas, or KubeRay's default."""
    return int(group.get("maxReplicas", 2**31 - 1))


def upgraded_in_steps(service: Object) -> bool:
    """Whether an upgrade moves clients gradually, by a Gateway that KubeRay makes."""
    strategy = service["spec"].get("upgradeStrategy", {})
    return bool(strategy.get("type") == "NewClusterWithIncrementalUpgrade")

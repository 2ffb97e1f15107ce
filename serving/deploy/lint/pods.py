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
_MOST = 2**31 - 1
"""KubeRay's default of maxReplicas."""


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
    def component(self) -> str:
        """head, router, engine, redis or weights; "" for a pod that is not of the service."""
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def node_type(self) -> str:
        """head, worker or redis-cleanup; "" for a pod that is not of Ray."""
        return self.labels.get("ray.io/node-type", "")


def pods(manifests: Manifests) -> list[Pod]:
    """All kinds of pods of the manifests, KubeRay's own among them."""
    return [*ray_pods(manifests.service), *_workloads(manifests)]


def _workloads(manifests: Manifests) -> Iterator[Pod]:
    for obj in manifests.of_kind("Job", "StatefulSet", "Deployment"):
        namespace = obj["metadata"].get("namespace", "default")
        template = obj["spec"]["template"]
        labels = template.get("metadata", {}).get("labels", {})
        most = obj["spec"].get("replicas", 1)
        yield Pod(named(obj), namespace, labels, template["spec"], most)


def ray_pods(service: Object) -> Iterator[Pod]:
    """The pods that KubeRay creates, with the labels of labelPod and BuildPod in its
    controllers/ray/common/pod.go.
    """
    cluster = service["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]
    with_autoscaler = head["spec"]
    if cluster.get("enableInTreeAutoscaling"):
        with_autoscaler = head["spec"] | {
            "containers": [*head["spec"]["containers"], _autoscaler(cluster)]
        }
    ray = head["spec"]["containers"][0] | {"resources": _CLEANUP_RESOURCES}
    cleanup = head["spec"] | {"containers": [ray]}
    yield _ray_pod(service, "head", "head", "headgroup", head, with_autoscaler, 1)
    yield _ray_pod(service, CLEANUP, CLEANUP, "headgroup", head, cleanup, 1)
    for group in cluster.get("workerGroupSpecs", ()):
        most = group.get("maxReplicas", _MOST) * group.get("numOfHosts", 1)
        template = group["template"]
        name = group["groupName"]
        yield _ray_pod(service, name, "worker", name, template, template["spec"], most)


def _ray_pod(
    service: Object,
    what: str,
    node_type: str,
    group: str,
    template: Object,
    spec: Object,
    most: int,
) -> Pod:
    labels = {
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        "ray.io/is-ray-node": "yes",
        **template.get("metadata", {}).get("labels", {}),
        "ray.io/cluster": f"{service['metadata']['name']}-x1y2z",
        "ray.io/node-type": node_type,
        "ray.io/group": group,
        "ray.io/serve": "true" if node_type == "worker" else "false",
    }
    namespace = service["metadata"].get("namespace", "default")
    return Pod(f"{named(service)}, {what}", namespace, labels, spec, most)


def _autoscaler(cluster: Object) -> Object:
    """The container that KubeRay adds to the head."""
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    options = cluster.get("autoscalerOptions", {})
    return {
        "name": "autoscaler",
        "image": options.get("image", head["image"]),
        "resources": options.get("resources", AUTOSCALER_RESOURCES),
        **{key: options[key] for key in _COPIED_TO_AUTOSCALER if key in options},
    }


def groups(service: Object, component: str) -> list[Object]:
    """The worker groups whose pods are of a component."""
    wanted = [p.owner for p in ray_pods(service) if p.component == component]
    specs = service["spec"]["rayClusterConfig"].get("workerGroupSpecs", ())
    return [group for group in specs if f"{named(service)}, {group['groupName']}" in wanted]


def upgraded_in_steps(service: Object) -> bool:
    """Whether an upgrade moves clients gradually, by a Gateway that KubeRay makes."""
    strategy = service["spec"].get("upgradeStrategy", {})
    return bool(strategy.get("type") == "NewClusterWithIncrementalUpgrade")

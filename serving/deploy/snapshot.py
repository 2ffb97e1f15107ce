"""The objects of a namespace at one moment."""

from dataclasses import dataclass, field

from serving.deploy.errors import Denied, DeployError
from serving.deploy.kube import Kube
from serving.deploy.objects import Object, condition, is_ready, labels_of

JOB_NAME = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Snapshot:
    """The RayService, if there is one, and all that belongs to it. `log_lines` has the last log
    line of each Job, `lost_nodes` the nodes that have pods and do not answer, as far as this user
    may know.
    """

    service: Object | None
    clusters: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    jobs: list[Object] = field(default_factory=list)
    claims: list[Object] = field(default_factory=list)
    stateful_sets: list[Object] = field(default_factory=list)
    log_lines: dict[str, str] = field(default_factory=dict)
    lost_nodes: frozenset[str] = frozenset()


def take(kube: Kube, namespace: str) -> Snapshot:
    """Reads a snapshot. Raises DeployError."""
    services = kube.find("ray.io/v1", "RayService", namespace)
    if len(services) > 1:
        names = ", ".join(each["metadata"]["name"] for each in services)
        raise DeployError(
            f"{namespace} has more than one RayService: {names}; give each a namespace of its own"
        )
    pods = kube.find("v1", "Pod", namespace)
    return Snapshot(
        service=services[0] if services else None,
        clusters=kube.find("ray.io/v1", "RayCluster", namespace),
        pods=pods,
        events=kube.find("v1", "Event", namespace),
        jobs=kube.find("batch/v1", "Job", namespace),
        claims=kube.find("v1", "PersistentVolumeClaim", namespace),
        stateful_sets=kube.find("apps/v1", "StatefulSet", namespace),
        log_lines=_log_lines(kube, pods),
        lost_nodes=_lost_nodes(kube, pods),
    )


def is_lost(node: Object) -> bool:
    """Whether a node has not reported for so long that Kubernetes knows nothing of it."""
    return bool(condition(node, "Ready").get("status") == "Unknown")


def _lost_nodes(kube: Kube, pods: list[Object]) -> frozenset[str]:
    names = {pod["spec"].get("nodeName") for pod in pods if not is_ready(pod)} - {None}
    try:
        nodes = {name: kube.get("v1", "Node", name) for name in sorted(names)}
    except Denied:
        return frozenset()
    return frozenset(name for name, node in nodes.items() if node is not None and is_lost(node))


def _log_lines(kube: Kube, pods: list[Object]) -> dict[str, str]:
    found = {}
    for pod in pods:
        job = labels_of(pod).get(JOB_NAME)
        if job and pod["status"].get("phase") == "Running":
            container = pod["spec"]["containers"][0]["name"]
            try:
                found[job] = "".join(list(kube.log(pod, container, tail_lines=1))[-1:])
            except DeployError:  # its container does not run yet
                continue
    return found

"""The faults and operations: what is done to the service, and when it has happened."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from serving.deploy.capacity import nodes as room
from serving.deploy.errors import Conflict, DeployError
from serving.deploy.objects import is_ready
from serving.deploy.serve_config import config_of
from serving.deploy.survey import survey
from tests.real_cluster.pod import execute
from tests.real_cluster.service import Service

Object = dict[str, Any]

AWAY_S = 60.0
# The brackets keep the shell, whose command line this is, from finding itself.
_KILL_ENGINE = (
    "for each in /proc/[0-9]*; do "
    "if grep -q 'VLLM::Engine[C]ore' $each/cmdline 2>/dev/null; "
    "then kill -9 ${each#/proc/} && echo killed; exit; fi; done"
)


@dataclass(frozen=True)
class Operation:
    name: str
    happens: Callable[[Service], None]
    """Returns once it has happened, which is what is timed; then the service comes up again. Raises
    DeployError if it does not happen as promised."""
    within_s: float | None = None
    """The promised time."""
    streams: bool = True
    """Whether clients stream meanwhile."""
    last: bool = False
    """Whether there is no service afterwards."""
    lacks: Callable[[Service], str] = lambda service: ""
    """What the cluster lacks for it; "" if nothing."""


def kill_engine(service: Service) -> None:
    before = service.clients.replicas()
    for pod in service.pods(node_type="worker"):
        if "killed" in execute(service.kube, pod, "sh", "-c", _KILL_ENGINE):
            break
    else:
        raise DeployError("no pod has a process of an engine")

    def replaced() -> bool:
        now = service.clients.replicas()
        return len(now) == len(before) and now != before

    service.wait(replaced, "the engine is replaced")


def delete_head(service: Service) -> None:
    old = service.head()
    service.kube.delete(old)
    service.wait(lambda: _other(service, old, node_type="head"), "another head is ready")


def delete_redis(service: Service) -> None:
    (old,) = service.pods(component="redis")
    service.kube.delete(old)
    _redis_returns(service, old)


def redis_away(service: Service) -> None:
    """Redis is away for a minute. The head stays."""
    (head,) = service.pods(node_type="head")
    (redis,) = service.pods(component="redis")
    redis_set = service.kube.get("apps/v1", "StatefulSet", "redis", service.namespace)
    assert redis_set is not None
    service.kube.merge(redis_set, {"spec": {"replicas": 0}})
    service.wait(lambda: not service.is_there(redis), "Redis is gone")
    time.sleep(AWAY_S)
    service.kube.merge(redis_set, {"spec": {"replicas": 1}})
    _redis_returns(service, redis)
    if not service.is_there(head):
        raise DeployError("the head ended")


def _redis_returns(service: Service, old: Object) -> None:
    """Waits for another pod of Redis, and for a head that is ready."""
    service.wait(lambda: _other(service, old, component="redis"), "Redis is back")
    service.wait(lambda: any(map(is_ready, service.pods(node_type="head"))), "the head is back")


def evict_engine(service: Service) -> None:
    """Evicts the pod of an engine, as soon as its disruption budget allows."""
    pod = _engine_pods(service)[0]

    def evicted() -> bool:
        try:
            service.kube.evict(pod)
        except Conflict:
            return False
        return True

    service.wait(evicted, "the budget allows an eviction")
    service.wait(lambda: not service.is_there(pod), "the evicted pod has ended")


def drain_node(service: Service) -> None:
    node = _engine_pods(service)[0]["spec"]["nodeName"]
    try:
        service.must_deploy("drain", node, f"--timeout={service.timeout_min}")
    finally:
        cordoned = service.kube.get("v1", "Node", node)
        assert cordoned is not None
        service.kube.merge(cordoned, {"spec": {"unschedulable": None}})


def change_config(service: Service) -> None:
    """Replaces all engines in the running cluster."""

    def change(rayservice: Object) -> None:
        config = yaml.safe_load(rayservice["spec"]["serveConfigV2"])
        for model in config["applications"][0]["args"]["models"]:
            model["drain_timeout_s"] = model.get("drain_timeout_s", 600) - 1
        rayservice["spec"]["serveConfigV2"] = yaml.safe_dump(config, sort_keys=False)

    _roll_out(service, change)


def change_pods(service: Service) -> None:
    """Starts a second cluster, as a new image does, and moves the clients there."""

    def change(rayservice: Object) -> None:
        for container in _ray_containers(rayservice):
            container.setdefault("env", []).append({"name": "TEST_CLUSTER", "value": "1"})

    _roll_out(service, change)


def failing_rollout(service: Service) -> None:
    """Rolls an image out that there is not, and the old state returns."""

    def change(rayservice: Object) -> None:
        for container in _ray_containers(rayservice):
            container["image"] = container["image"].partition("@")[0] + "-that-there-is-not"

    before = _live(service)["spec"]
    if not service.deploy("rollout", *_options(service, change)):
        raise DeployError("an image that there is not was rolled out")
    if _live(service)["spec"] != before:
        raise DeployError("the old state did not return")


def scale_up(service: Service) -> None:
    _scale(service, len(service.clients.replicas()) + 1)


def scale_down(service: Service) -> None:
    _scale(service, len(service.clients.replicas()) - 1)


def uninstall(service: Service) -> None:
    service.must_deploy("delete", str(service.changed(lambda same: None)), "--yes")
    service.wait(
        lambda: service.kube.get("v1", "Namespace", service.namespace) is None,
        "the namespace is gone",
    )


def _lacks_nodes(service: Service) -> str:
    nodes = {pod["spec"]["nodeName"] for pod in _engine_pods(service)}
    return "" if len(nodes) > 1 else "engines on two nodes"


def _lacks_room(service: Service) -> str:
    facts = survey(service.kube, service.manifests)
    short = [found for found in room(service.manifests, facts) if found.subject == "upgrade"]
    return "room for a second cluster" if short else _lacks_strategy(service)


def _lacks_strategy(service: Service) -> str:
    strategy = service.manifests.service["spec"].get("upgradeStrategy", {}).get("type")
    return "an upgradeStrategy" if strategy == "None" else ""


def _lacks_fixed_size(service: Service) -> str:
    model = config_of(service.manifests.service).models[0]
    return "" if model.autoscaling is None else "a model of a fixed number of replicas"


def _engine_pods(service: Service) -> list[Object]:
    """The pods that engines run in, those of routers where both share a pod; last a pod that is not
    ready, as one is in which nothing runs yet or any more."""
    pods = service.pods(component="engine") or service.pods(component="router")
    return sorted(pods, key=is_ready, reverse=True)


def _other(service: Service, old: Object, **labels: str) -> bool:
    """Whether a pod that is not the old one is ready."""
    return any(
        is_ready(pod) and pod["metadata"]["uid"] != old["metadata"]["uid"]
        for pod in service.pods(**labels)
    )


def _live(service: Service) -> Object:
    metadata = service.manifests.service["metadata"]
    found = service.kube.get("ray.io/v1", "RayService", metadata["name"], service.namespace)
    assert found is not None
    return found


def _ray_containers(rayservice: Object) -> list[Object]:
    cluster = rayservice["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"]["containers"][0] for group in groups]


def _options(service: Service, change: Callable[[Object], None]) -> tuple[str, ...]:
    # A busy cluster answers the rollout's own requests more slowly, which is no fault here.
    return (
        str(service.changed(change)),
        f"--timeout={service.timeout_min}",
        "--max-ttft-s=60",
        "--requests=8",
    )


def _roll_out(service: Service, change: Callable[[Object], None]) -> None:
    service.must_deploy("rollout", *_options(service, change))
    service.keep_change()


def _scale(service: Service, count: int) -> None:
    """Changes the number of engines alone, which replaces none."""
    (status,) = _live(service)["status"]["activeServiceStatus"]["applicationStatuses"].values()
    name = next(name for name in status["serveDeploymentStatuses"] if name.startswith("Engine-"))

    def change(rayservice: Object) -> None:
        config = yaml.safe_load(rayservice["spec"]["serveConfigV2"])
        config["applications"][0]["deployments"] = [{"name": name, "num_replicas": count}]
        rayservice["spec"]["serveConfigV2"] = yaml.safe_dump(config, sort_keys=False)

    service.must_deploy("apply", str(service.changed(change)))
    service.keep_change()
    service.wait(lambda: len(service.clients.replicas()) == count, f"{count} engines")


OPERATIONS = (
    Operation("kill -9 of an engine", kill_engine),
    Operation("head deleted", delete_head, within_s=60),
    Operation("Redis deleted", delete_redis),
    Operation("Redis away for a minute", redis_away),
    Operation("engine's pod evicted", evict_engine),
    Operation("idle engine's pod evicted", evict_engine, within_s=30, streams=False),
    Operation("engine's node drained", drain_node, lacks=_lacks_nodes),
    Operation("config changed in place", change_config),
    Operation("second cluster takes over", change_pods, lacks=_lacks_room),
    Operation("rollout fails and returns", failing_rollout, lacks=_lacks_strategy),
    Operation("one engine more", scale_up, lacks=_lacks_fixed_size),
    Operation("one engine less", scale_down, lacks=_lacks_fixed_size),
    Operation("uninstalled", uninstall, within_s=60, streams=False, last=True),
)

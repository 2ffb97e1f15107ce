"""What the cluster must be for the Serve config that it runs: versions, room, and time."""

import functools
import re
from collections.abc import Iterator

from ray.serve.schema import ServeDeploySchema
from typer.testing import CliRunner

from serving.app import deployment_name
from serving.cli import app as cli
from serving.config import AppConfig
from serving.engine import deployment as engine
from serving.router import deployment as router
from tests.deploy.locks import pins
from tests.k8s.manifests import (
    Object,
    Pod,
    in_steps,
    name,
    of_kind,
    parse,
    pods,
    quantity,
    the,
)

_GIB = 1024**3
_RAY_GIB = 2
"""Of a pod, for Ray's own processes."""
_SLOW_START_S = 60
"""How long Ray's process may not answer on a node that is loading a model."""


def serve_config(rayservice: Object) -> AppConfig:
    """The application of a RayService, by our own rules. Raises pydantic.ValidationError."""
    (document,) = parse(rayservice["spec"]["serveConfigV2"])
    (application,) = document["applications"]
    return AppConfig.model_validate(application["args"])


def problems(objects: list[Object]) -> list[str]:
    return [
        p for rayservice in of_kind(objects, "RayService") for p in _problems(rayservice, objects)
    ]


def _problems(rayservice: Object, objects: list[Object]) -> Iterator[str]:
    (document,) = parse(rayservice["spec"]["serveConfigV2"])
    try:
        ServeDeploySchema.model_validate(document)
        config = serve_config(rayservice)
    except ValueError as error:
        yield f"serveConfigV2: {error}"
        return
    config_map = the(objects, "ConfigMap", "serve-config")
    if parse(config_map["data"]["serve.yaml"]) != [document]:
        yield "the weights' Job reads another config than the service has"
    yield from _versions(rayservice)
    yield from _router(rayservice, config)
    yield from _engines(rayservice, config)
    yield from _object_stores(rayservice)
    yield from _budgets(objects, config)
    yield from _quota(objects)
    for pod in pods(objects):
        yield from _commands(pod)
    for pod in pods([rayservice]):
        yield from _times(pod, rayservice, config)
        yield from _probes(pod, in_steps(rayservice))


def _versions(rayservice: Object) -> Iterator[str]:
    ray = locked("ray")
    if str(rayservice["spec"]["rayClusterConfig"]["rayVersion"]) != ray:
        yield f"rayVersion: the lock has Ray {ray}"


def locked(package: str) -> str:
    return pins("gpu")[package]


def _groups(rayservice: Object, component: str) -> list[Object]:
    return [
        group
        for group in rayservice["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        if group["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]


def _cpus(group: Object) -> float:
    return float(group["rayStartParams"]["num-cpus"])


def _gpus(group: Object) -> int:
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return int(limits.get("nvidia.com/gpu", 0))


def _router(rayservice: Object, config: AppConfig) -> Iterator[str]:
    cluster = rayservice["spec"]["rayClusterConfig"]
    if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "headGroupSpec: replicas on the head die with it (num-cpus)"
    per_pod = config.router.cpus
    room = sum(
        group["minReplicas"] * (_cpus(group) // per_pod) for group in _groups(rayservice, "router")
    )
    if room < config.router.replicas:
        yield f"the router's groups hold {room:g} of {config.router.replicas} routers"
    most = sum(
        group["maxReplicas"] * (_cpus(group) // per_pod) for group in _groups(rayservice, "router")
    )
    if most < 2 * config.router.replicas:
        yield "the router's groups have no room for an update, which starts the new ones first"
    for group in _groups(rayservice, "router"):
        ports = group["template"]["spec"]["containers"][0]["ports"]
        if [p["containerPort"] for p in ports if p["name"] == "serve"] != [config.router.port]:
            yield f"{group['groupName']}: its port serve is not the router's, {config.router.port}"
    for group in _groups(rayservice, "engine"):
        if _cpus(group) >= per_pod:
            yield f"{group['groupName']}: a router would fit, and keep an engine off its GPUs"


def _engines(rayservice: Object, config: AppConfig) -> Iterator[str]:
    """Each engine's stages on pods that they fill, with the model's memory."""
    groups = _groups(rayservice, "engine")
    needed: dict[str, int] = {}
    for model in config.models:
        entry = model.entry()
        if entry.kind != "vllm":
            continue
        gpus = entry.tensor_parallel_size if entry.accelerator == "gpu" else 0
        fitting = [g for g in groups or _groups(rayservice, "router") if _gpus(g) == gpus]
        if not fitting:
            yield f"{entry.id}: no group of pods with {gpus} GPUs"
            continue
        group = fitting[0]
        needed.setdefault(group["groupName"], 0)
        needed[group["groupName"]] += model.replicas * entry.pipeline_parallel_size
        if gpus and _cpus(group) // model.cpus != 1:
            yield f"{entry.id}: its {model.cpus:g} CPUs are not those of {group['groupName']}"
        yield from _memory(group, entry.id, entry.host_memory_gib)
    for group in groups:
        wanted = needed.get(group["groupName"], 0)
        if not group["minReplicas"] <= wanted or not group["replicas"] <= wanted:
            yield f"{group['groupName']}: more pods than the {wanted} that are needed"
        if group["maxReplicas"] <= wanted:
            yield f"{group['groupName']}: no pod can take over from one whose node is drained"


def _memory(group: Object, model_id: str, model_gib: float) -> Iterator[str]:
    spec = group["template"]["spec"]
    limit_gib = quantity(spec["containers"][0]["resources"]["limits"]["memory"]) / _GIB
    shared_gib = _shared_bytes(group) / _GIB
    if limit_gib < model_gib + shared_gib + _RAY_GIB:
        yield f"{model_id}: {limit_gib:g} GiB do not hold its {model_gib:g}, shared memory and Ray"


def _object_stores(rayservice: Object) -> Iterator[str]:
    cluster = rayservice["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        object_store = float(group["rayStartParams"]["object-store-memory"])
        if object_store > _shared_bytes(group):
            yield f"{group.get('groupName', 'head')}: Ray's objects exceed the shared memory"


def _shared_bytes(group: Object) -> float:
    volumes = group["template"]["spec"]["volumes"]
    return sum(
        quantity(volume["emptyDir"]["sizeLimit"])
        for volume in volumes
        if volume.get("emptyDir", {}).get("medium") == "Memory"
    )


def _commands(pod: Pod) -> Iterator[str]:
    """Those of ours are ones that there are."""
    for container in pod.containers:
        pre_stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
        for command in (container.get("command", ()), pre_stop.get("command", ())):
            words = command[-1].split() if command and command[0] == "sh" else command
            if "mistral-serve" in words:
                start = words.index("mistral-serve") + 1
                ours = [word for word in words[start:] if not word.startswith((">", "2>"))]
                if problem := _wrong(" ".join(ours)):
                    yield f"{pod.owner}: {problem}"


@functools.cache
def _wrong(command: str) -> str | None:
    result = CliRunner().invoke(cli, [*command.split(), "--help"])
    if result.exit_code == 0:
        return None
    why = next(line for line in result.output.splitlines() if "No such" in line)
    return f"mistral-serve {command}: {why.strip('│ ')}"


def _times(pod: Pod, rayservice: Object, config: AppConfig) -> Iterator[str]:
    """preStop < grace, and both longer than Serve gives a replica to finish its answers."""
    grace_s = pod.spec.get("terminationGracePeriodSeconds", 30)
    pre_stop = pod.spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec")
    if pre_stop is None:
        yield f"{pod.owner}: is not drained before it stops"
        return
    within = re.search(r"drain-node .*--within-s (\d+)", pre_stop["command"][-1])
    if within is None:
        yield f"{pod.owner}: its preStop is not to drain"
        return
    within_s = int(within[1])
    if within_s >= grace_s:
        yield f"{pod.owner}: killed after {grace_s} s, and draining may take {within_s}"
    shutdown_s = _shutdown_s(config)
    longest_s = {
        "router": shutdown_s["router"],
        "engine": max(shutdown_s.values()),
        "head": max(shutdown_s.values()),
    }[pod.component]
    if within_s <= longest_s:
        yield f"{pod.owner}: draining ends after {within_s} s, an answer after {longest_s:g}"
    answer_s = max(config.router.drain_timeout_s, *(m.drain_timeout_s for m in config.models))
    if rayservice["spec"].get("rayClusterDeletionDelaySeconds", 60) <= answer_s:
        yield f"rayClusterDeletionDelaySeconds: an answer may take {answer_s:g} s"
    if pod.component == "head":
        others = [p for p in pods([rayservice]) if p.component in ("router", "engine")]
        if any(p.spec["terminationGracePeriodSeconds"] > grace_s for p in others):
            yield "the head is gone before the nodes that it drains"


def _shutdown_s(config: AppConfig) -> dict[str, float]:
    """graceful_shutdown_timeout_s of each deployment, as Serve is told."""
    times = {"router": float(router.options(config.router)["graceful_shutdown_timeout_s"])}
    for model in config.models:
        entry = model.entry()
        options = engine.options(entry, model.cpus, model.drain_timeout_s)
        times[deployment_name(entry.id)] = float(options["graceful_shutdown_timeout_s"])
    return times


def _probes(pod: Pod, upgraded_in_steps: bool) -> Iterator[str]:
    if pod.labels["ray.io/node-type"] == "redis-cleanup":
        return
    container = pod.spec["containers"][0]
    if upgraded_in_steps and pod.component == "engine":
        # The gateway sends requests to each pod that is ready. KubeRay's probe asks for a router.
        if "readinessProbe" in container:
            yield f"{pod.owner}: would be ready, and get requests"
    elif "readinessProbe" not in container:
        yield f"{pod.owner}: no readinessProbe; KubeRay's own would ask for a router"
    if "livenessProbe" not in container:
        yield f"{pod.owner}: no livenessProbe"
    liveness = container.get("livenessProbe", {})
    patience_s = liveness.get("periodSeconds", 10) * liveness.get("failureThreshold", 3)
    if pod.component == "engine" and patience_s < _SLOW_START_S:
        yield f"{pod.owner}: a node that loads a model is killed after {patience_s} s"
    if "8000" in str(liveness) or "serve" in str(liveness.get("httpGet", {}).get("port")):
        yield f"{pod.owner}: is killed when its replica is not there"


def _budgets(objects: list[Object], config: AppConfig) -> Iterator[str]:
    """Kubernetes takes minAvailable as a number alone for pods whose owner cannot be scaled."""
    engines = [m for m in config.models if m.entry().kind == "vllm"]
    replicas = {
        "router": config.router.replicas,
        "engine": sum(m.replicas * m.entry().pipeline_parallel_size for m in engines),
    }
    for budget in of_kind(objects, "PodDisruptionBudget"):
        spec = budget["spec"]
        if "maxUnavailable" in spec or not isinstance(spec.get("minAvailable"), int):
            yield f"{name(budget)}: Ray's pods take minAvailable, as a number"
            continue
        component = spec["selector"]["matchLabels"]["app.kubernetes.io/component"]
        if not 0 < spec["minAvailable"] < replicas[component]:
            yield f"{name(budget)}: leaves {spec['minAvailable']} of {replicas[component]}"


def _quota(objects: list[Object]) -> Iterator[str]:
    """Two clusters, as there are in an upgrade, and what stands beside them."""
    (quota,) = of_kind(objects, "ResourceQuota")
    hard = quota["spec"]["hard"]
    need: dict[str, float] = dict.fromkeys(hard, 0)
    for pod in pods(objects):
        count = pod.count * (2 if pod.owner.startswith("RayService") else 1)
        if pod.labels.get("ray.io/node-type") == "redis-cleanup":
            count = 1
        need["pods"] += count
        for kind in ("requests", "limits"):
            for resource in {r for c in pod.containers for r in c["resources"].get(kind, {})}:
                key = f"{kind}.{resource}"
                if key in need:
                    need[key] += count * _of_pod(pod, kind, resource)
    need["persistentvolumeclaims"] = len(of_kind(objects, "PersistentVolumeClaim")) + sum(
        len(o["spec"]["volumeClaimTemplates"]) for o in of_kind(objects, "StatefulSet")
    )
    for key, value in need.items():
        if value > quantity(hard[key]):
            yield f"{name(quota)}: {key} {hard[key]}, and an upgrade may need {value:g}"


def _of_pod(pod: Pod, kind: str, resource: str) -> float:
    def of(container: Object) -> float:
        return quantity(container["resources"].get(kind, {}).get(resource, 0))

    first = [of(container) for container in pod.spec.get("initContainers", ())]
    return max([sum(of(container) for container in pod.spec["containers"]), *first])

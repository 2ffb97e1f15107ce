"""Rules of size: pods, memory, quota and budgets must suit the Serve config."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from serving.config import AppConfig
from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, Report, report_on
from serving.deploy.lint.pods import CLEANUP, groups, pods
from serving.deploy.manifests import Manifests, Object
from serving.deploy.pods import GPU, claims, usage
from serving.deploy.quantity import quantity

_GIB = 1024**3
_RAY_GIB = 2
"""The part of a pod's memory for Ray's own processes."""


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    service = manifests.service
    wrong = report_on(named(service), "sizing")
    yield from _routers(service, config, wrong)
    yield from _engines(service, config, wrong)
    yield from _object_stores(service, wrong)
    yield from _budgets(manifests, config)
    yield from _quotas(manifests)


def _amount(group: Object, resource: str, part: str = "limits") -> Decimal:
    """The amount of a resource in a group's Ray container; 0 if it has none."""
    resources = group["template"]["spec"]["containers"][0].get("resources", {})
    return quantity(resources.get(part, {}).get(resource, 0))


def _cpus(group: Object) -> float:
    """The CPUs that Ray has for replicas: its own parameter, else the limit or the request."""
    given = group.get("rayStartParams", {}).get("num-cpus")
    return float(given or _amount(group, "cpu") or _amount(group, "cpu", "requests"))


def _gpus(group: Object) -> int:
    return int(_amount(group, GPU))


def _most(group: Object) -> int:
    return int(group.get("maxReplicas", 2**31 - 1))


def _routers(service: Object, config: AppConfig, wrong: Report) -> Iterator[Finding]:
    cluster, per_pod = service["spec"]["rayClusterConfig"], config.router.cpus
    router_groups = groups(service, "router")
    if str(cluster["headGroupSpec"].get("rayStartParams", {}).get("num-cpus")) != "0":
        yield wrong(
            "head-cpus",
            "Serve puts replicas on the head, and they die with it",
            'set num-cpus: "0" in the head\'s rayStartParams',
        )
    room = sum(group.get("minReplicas", 0) * (_cpus(group) // per_pod) for group in router_groups)
    if room < config.router.replicas:
        yield wrong(
            "router-pods",
            f"the router's groups hold {room:g} of {config.router.replicas} routers",
            "raise minReplicas of the group router, or its num-cpus",
        )
    most = sum(_most(group) * (_cpus(group) // per_pod) for group in router_groups)
    if most < 2 * config.router.replicas:
        yield wrong(
            "router-update",
            "the router's groups have no room for an update, which starts the new routers first",
            f"raise maxReplicas of the group router: {2 * config.router.replicas} must fit",
        )
    for group in router_groups:
        ports = group["template"]["spec"]["containers"][0].get("ports", ())
        numbers = [port["containerPort"] for port in ports if port.get("name") == "serve"]
        if numbers != [config.router.port]:
            yield wrong(
                "router-port",
                f"{group['groupName']}: its port serve is not the router's, {config.router.port}",
                f"set containerPort: {config.router.port}, or router.port in the Serve config",
            )
    for group in groups(service, "engine"):
        if _cpus(group) >= per_pod:
            yield wrong(
                "router-beside-engine",
                f"{group['groupName']}: a router fits on its pods, and would keep an engine off "
                "their GPUs",
                f"set num-cpus in its rayStartParams below the router's {per_pod:g} CPUs",
            )


def _engines(service: Object, config: AppConfig, wrong: Report) -> Iterator[Finding]:
    """Checks that each pipeline stage of an engine fills a pod, which has the model's memory."""
    engine_groups = groups(service, "engine")
    needed: Counter[str] = Counter()
    for model in config.models:
        entry = model.entry
        if entry.kind != "vllm":
            continue
        gpus = entry.tensor_parallel_size if entry.accelerator == "gpu" else 0
        candidates = engine_groups or groups(service, "router")
        group = next((each for each in candidates if _gpus(each) == gpus), None)
        if group is None:
            yield wrong(
                "engine-gpus",
                f"{entry.id}: no group of pods with {gpus} GPUs",
                f"give a group the limit {GPU}: {gpus}, or choose another variant",
            )
            continue
        name = group["groupName"]
        needed[name] += model.replicas * entry.pipeline_parallel_size
        if gpus and _cpus(group) // model.cpus != 1:
            yield wrong(
                "engine-cpus",
                f"{entry.id}: its {model.cpus:g} CPUs do not fill a pod of {name}",
                f"set the model's cpus in the Serve config to {_cpus(group):g}",
            )
        yield from _memory(group, entry.id, entry.host_memory_gib, wrong)
    for group in engine_groups:
        name, wanted = group["groupName"], needed[group["groupName"]]
        if max(group.get("minReplicas", 0), group.get("replicas", 0)) > wanted:
            yield wrong(
                "engine-pods",
                f"{name}: has more pods than the {wanted} that are needed",
                f"set replicas and minReplicas to {wanted}",
            )
        if _most(group) <= wanted:
            yield wrong(
                "engine-spare",
                f"{name}: no pod can take over from one whose node is drained",
                f"raise maxReplicas above {wanted}",
            )


def _memory(group: Object, model_id: str, model_gib: float, wrong: Report) -> Iterator[Finding]:
    limit_gib, shared_gib = float(_amount(group, "memory")) / _GIB, _shared_bytes(group) / _GIB
    needed_gib = model_gib + shared_gib + _RAY_GIB
    if 0 < limit_gib < needed_gib:
        yield wrong(
            "memory",
            f"{model_id}: {limit_gib:g} GiB do not hold its {model_gib:g}, the {shared_gib:g} of "
            f"shared memory and {_RAY_GIB} for Ray",
            f"raise the limit of {group['groupName']} to {needed_gib:g}Gi",
        )


def _object_stores(service: Object, wrong: Report) -> Iterator[Finding]:
    cluster = service["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())]:
        size = group.get("rayStartParams", {}).get("object-store-memory")
        if size is not None and float(size) > _shared_bytes(group):
            yield wrong(
                "object-store",
                f"{group.get('groupName', 'head')}: Ray's object store exceeds the shared memory",
                "lower object-store-memory, or raise sizeLimit of the volume shm",
            )


def _shared_bytes(group: Object) -> float:
    volumes = group["template"]["spec"].get("volumes", ())
    return float(
        sum(
            quantity(volume["emptyDir"].get("sizeLimit", 0))
            for volume in volumes
            if volume.get("emptyDir", {}).get("medium") == "Memory"
        )
    )


def _budgets(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    """Kubernetes takes minAvailable as a number alone for pods whose owner cannot be scaled."""
    engines = [m for m in config.models if m.entry.kind == "vllm"]
    replicas = {
        "router": config.router.replicas,
        "engine": sum(m.replicas * m.entry.pipeline_parallel_size for m in engines),
    }
    for budget in manifests.of_kind("PodDisruptionBudget"):
        wrong, spec = report_on(named(budget), "sizing"), budget["spec"]
        labels = spec["selector"].get("matchLabels", {})
        count = replicas.get(labels.get("app.kubernetes.io/component"))
        if count is None:
            continue
        least = spec.get("minAvailable")
        if "maxUnavailable" in spec or not isinstance(least, int):
            yield wrong(
                "budget-kind",
                "Kubernetes takes minAvailable as a number alone for Ray's pods",
                f"set minAvailable: {max(1, count - 1)}, and no maxUnavailable",
            )
        elif not 0 < least < count:
            yield wrong(
                "budget",
                f"keeps {least} of {count} pods, so that a drain is "
                + ("blocked" if least >= count else "not held back"),
                f"set minAvailable between 1 and {count - 1}, or remove it where there is one pod",
            )


def _quotas(manifests: Manifests) -> Iterator[Finding]:
    """Checks that each quota allows two clusters, which an upgrade has, and the other pods."""
    need: Counter[str] = Counter({"persistentvolumeclaims": len(claims(manifests.objects))})
    for pod in pods(manifests):
        both = 2 if pod.node_type and pod.node_type != CLEANUP else 1
        for resource, amount in usage(pod.spec).items():
            need[resource] += amount * pod.most * both
    for quota in manifests.of_kind("ResourceQuota"):
        for key, hard in quota["spec"].get("hard", {}).items():
            amount = need[f"requests.{key}" if key in ("cpu", "memory") else key]
            if amount > quantity(hard):
                yield report_on(named(quota), "sizing")(
                    "quota",
                    f"{key} is {hard}, and an upgrade may need {amount:g}",
                    "raise it, or lower maxReplicas",
                )

"""Rules of size: pods, memory, quota and budgets must suit the Serve config."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import all_groups, groups, max_replicas, pods, ports_of, ray_container
from serving.deploy.lint.rules import Report, report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.pods import GPU, claims, usage
from serving.deploy.quantity import quantity, shown

_GIB = 1024**3
_RAY_GIB = 2
"""The part of a pod's memory for Ray's own processes."""
_SHARED_GIB = 4
"""The part of a pod's /dev/shm through which vLLM's processes and NCCL speak."""


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    service = manifests.service
    wrong = report_on(named(service), "sizing")
    yield from _routers(service, config, wrong)
    yield from _engines(service, config, wrong)
    yield from _start_params(service)
    yield from _budgets(manifests, config)
    yield from _quotas(manifests)


def _amount(group: Object, resource: str, part: str = "limits") -> Decimal:
    """The amount of a resource in a group's Ray container; 0 if it has none."""
    resources = ray_container(group).get("resources", {})
    return quantity(resources.get(part, {}).get(resource, 0))


def _cpus(group: Object) -> float:
    """The CPUs that Ray has for replicas: its own parameter, else the limit or the request."""
    given = group.get("rayStartParams", {}).get("num-cpus")
    return float(given or _amount(group, "cpu") or _amount(group, "cpu", "requests"))


def _routers(service: Object, config: AppConfig, wrong: Report) -> Iterator[Finding]:
    least, most, per_pod = (
        config.router.least_replicas,
        config.router.most_replicas,
        config.router.cpus,
    )
    router_groups = [(group, _cpus(group) // per_pod) for group in groups(service, "router")]
    room = sum(group.get("minReplicas", 0) * routers for group, routers in router_groups)
    if room < least:
        yield wrong("router-pods", f"the router's groups hold {room:g} of {least} routers")
    if sum(max_replicas(group) * routers for group, routers in router_groups) < 2 * most:
        what = f"an update, which starts the new routers first: {2 * most} must fit"
        yield wrong("router-update", f"the router's groups have no room for {what}")
    for group, _ in router_groups:
        if ports_of(ray_container(group)).get("serve") != config.router.port:
            what = f"its port serve is not the router's, {config.router.port}"
            yield wrong("router-port", f"{group['groupName']}: {what}")
    for group in groups(service, "engine"):
        if _cpus(group) >= per_pod:
            what = f"a router fits on its pods with {per_pod:g} CPUs, and keeps an engine off them"
            yield wrong("router-beside-engine", f"{group['groupName']}: {what}")


def _engines(service: Object, config: AppConfig, wrong: Report) -> Iterator[Finding]:
    """Checks that each pipeline stage of an engine fills a pod, which has the model's memory."""
    engine_groups = groups(service, "engine")
    least: Counter[str] = Counter()
    most: Counter[str] = Counter()
    all_have_a_group = True
    for model in config.models:
        entry = model.entry
        if entry.kind != "vllm":
            continue
        gpus = entry.tensor_parallel_size if entry.accelerator == "gpu" else 0
        candidates = engine_groups or groups(service, "router")
        group = next((each for each in candidates if _amount(each, GPU) == gpus), None)
        if group is None:
            yield wrong("engine-gpus", f"{entry.id}: no group of pods with {gpus} GPUs")
            all_have_a_group = False
            continue
        name = group["groupName"]
        least[name] += model.least_replicas * entry.pipeline_parallel_size
        most[name] += model.most_replicas * entry.pipeline_parallel_size
        if gpus and _cpus(group) // model.cpus != 1:
            what = f"its {model.cpus:g} CPUs do not fill a pod of {name}, {_cpus(group):g}"
            yield wrong("engine-cpus", f"{entry.id}: {what}")
        limit_gib, shared_gib = float(_amount(group, "memory")) / _GIB, _shared_bytes(group) / _GIB
        own_gib = entry.replica_memory_gib - entry.host_kv_cache_gib
        if entry.host_kv_cache_gib and shared_gib < entry.host_kv_cache_gib + _SHARED_GIB:
            parts = f"host_kv_cache_gib, {entry.host_kv_cache_gib:g}, and {_SHARED_GIB} for NCCL"
            what = f"/dev/shm of {shared_gib:g} GiB does not hold {parts}"
            yield wrong("shared-memory", f"{entry.id}: {what}")
        if 0 < limit_gib < own_gib + shared_gib + _RAY_GIB:
            parts = f"{own_gib:g}, {shared_gib:g} of shared memory and {_RAY_GIB}"
            what = f"{limit_gib:g} GiB do not hold its {parts} for Ray"
            yield wrong("memory", f"{entry.id}: {what}")
    # Which pods a model needs that has no group is not known.
    for group in engine_groups if all_have_a_group else ():
        name = group["groupName"]
        if max(group.get("minReplicas", 0), group.get("replicas", 0)) > least[name]:
            what = f"has more pods than the {least[name]} that are needed"
            yield wrong("engine-pods", f"{name}: {what}")
        if max_replicas(group) <= most[name]:
            what = f"no pod can take over from one whose node is drained beside {most[name]} in use"
            yield wrong("engine-spare", f"{name}: {what}")


def _start_params(service: Object) -> Iterator[Finding]:
    for owner, group in all_groups(service):
        wrong, params = report_on(owner, "sizing"), group.get("rayStartParams", {})
        if "groupName" not in group and str(params.get("num-cpus")) != "0":
            yield wrong("head-cpus", "Serve puts replicas on it, and they die with it")
        if float(params.get("object-store-memory", 0)) > _shared_bytes(group):
            yield wrong("object-store", "Ray's object store exceeds the shared memory")


def _shared_bytes(group: Object) -> float:
    empty_dirs = [v.get("emptyDir", {}) for v in group["template"]["spec"].get("volumes", ())]
    sizes = [each.get("sizeLimit", 0) for each in empty_dirs if each.get("medium") == "Memory"]
    return float(sum(map(quantity, sizes)))


def _budgets(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    """Kubernetes takes minAvailable as a number alone for pods whose owner cannot be scaled."""
    engines = [m for m in config.models if m.entry.kind == "vllm"]
    replicas = {
        "router": config.router.least_replicas,
        "engine": sum(m.least_replicas * m.entry.pipeline_parallel_size for m in engines),
    }
    for budget in manifests.of_kind("PodDisruptionBudget"):
        wrong, spec = report_on(named(budget), "sizing"), budget["spec"]
        labels = spec["selector"].get("matchLabels", {})
        count = replicas.get(labels.get("app.kubernetes.io/component"))
        if count is None:
            continue
        least = spec.get("minAvailable")
        if "maxUnavailable" in spec or not isinstance(least, int):
            message = "Kubernetes takes minAvailable as a number alone for Ray's pods"
            yield wrong("budget-kind", message)
        elif not 0 < least < count:
            what = "blocked" if least >= count else "not held back"
            yield wrong("budget", f"keeps {least} of {count} pods, so that a drain is {what}")


def _quotas(manifests: Manifests) -> Iterator[Finding]:
    """Checks that each quota allows two clusters, which an upgrade has, and the other pods."""
    need: Counter[str] = Counter({"persistentvolumeclaims": len(claims(manifests.objects))})
    for pod in pods(manifests):
        both = 2 if pod.node_type in ("head", "worker") else 1
        for resource, amount in usage(pod.spec).items():
            need[resource] += amount * pod.most * both
    for quota in manifests.of_kind("ResourceQuota"):
        for key, hard in quota["spec"].get("hard", {}).items():
            amount = need[f"requests.{key}" if key in ("cpu", "memory") else key]
            if amount > quantity(hard):
                given, needed = shown(key, quantity(hard)), shown(key, Decimal(amount))
                message = f"{key} is {given}, and an upgrade may need {needed}"
                yield report_on(named(quota), "sizing")("quota", message)

"""Whether the namespace's quotas allow the service, and the second cluster of an upgrade."""

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal

from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, caution, missing, ok, unknown
from serving.deploy.manifests import Manifests
from serving.deploy.pods import Pods, containers, second_cluster, wanted
from serving.deploy.quantity import quantity, shown

_EACH_SETS = ("limits.cpu", "limits.memory")
"""What each container must set, or have by a LimitRange, where a quota bounds it. (All of ours set
requests.)"""


def quotas(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks the quotas of the namespace, with those of the manifests in place of older ones."""
    namespace = manifests.namespace
    if facts.quotas is None:
        yield unknown("quota", "list quotas", f"kubectl -n {namespace} describe quota")
        return
    ours = {quota["metadata"]["name"]: quota for quota in manifests.of_kind("ResourceQuota")}
    there = {quota["metadata"]["name"]: quota for quota in facts.quotas}
    pods = wanted(manifests.objects)
    need, second = _sum(pods), _sum(second_cluster(manifests.objects))
    short = False
    for name, quota in (there | ours).items():
        for resource, hard in quota["spec"].get("hard", {}).items():
            key = f"requests.{resource}" if resource in ("cpu", "memory") else resource
            if key in _EACH_SETS and (unset := _without(key, pods, manifests, facts)):
                short = True
                yield missing(
                    "quota",
                    f"{name} bounds {key}, so that pods without it are refused: {', '.join(unset)}",
                    f"kubectl -n {namespace} patch quota {name} --type=json "
                    f'-p \'[{{"op":"remove","path":"/spec/hard/{resource}"}}]\'',
                    f"or set {key.partition('.')[2]} in the limits of these pods, which slows them",
                )
            if key not in need:
                continue
            limit, amount = quantity(hard), Decimal(need[key])
            allows = f"{name} allows {shown(key, limit)} of {key}"
            both = amount + second[key]
            if amount > limit:
                short = True
                fix = _raise(namespace, name, resource, amount, name in ours)
                yield missing("quota", f"{allows} and {shown(key, amount)} are needed", fix)
            elif both > limit:
                said = f"{allows}, and an upgrade with a second cluster needs {shown(key, both)}"
                yield caution("quota", said, _raise(namespace, name, resource, both, name in ours))
    if not short:
        yield ok("quota", "large enough")


def _without(key: str, pods: Iterable[Pods], manifests: Manifests, facts: Facts) -> list[str]:
    """The owners of pods with a container that sets no such limit and has no default of it."""
    resource = key.partition(".")[2]
    for each in [*manifests.of_kind("LimitRange"), *(facts.limit_ranges or ())]:
        if any(resource in item.get("default", {}) for item in each["spec"]["limits"]):
            return []
    return [
        each.owner
        for each in pods
        if any(
            resource not in (container.get("resources") or {}).get("limits", {})
            for container in containers(each.spec)
        )
    ]


def _raise(namespace: str, name: str, resource: str, amount: Decimal, in_manifests: bool) -> str:
    if in_manifests:
        return f"raise {resource} in the manifest of quota {name} to {amount:f} or more"
    patch = f'{{"spec":{{"hard":{{"{resource}":"{amount:f}"}}}}}}'
    return f"kubectl -n {namespace} patch quota {name} --type=merge -p '{patch}'"


def _sum(pods: Iterable[Pods]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in pods:
        for name, amount in each.usage.items():
            total[name] += amount * each.count
    return total

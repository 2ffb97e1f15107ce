"""What objects count for in a ResourceQuota, and a pod on its node."""

from collections import Counter
from decimal import Decimal

from tests.cluster.errors import forbidden
from tests.cluster.pod_rules import containers_of, quantity
from tests.cluster.schemas import Kind, Object
from tests.cluster.store import Store

Amounts = dict[str, Decimal]

PODS = ("", "pods")
QUOTAS = ("", "resourcequotas")
_TERMINAL = ("Succeeded", "Failed")


def usage(pod: Object) -> Amounts:
    """`requests.cpu`, `limits.memory` and so on: what the pod's containers say together.

    An init container counts where it needs more than all others together.
    """
    total: Counter[str] = Counter()
    first: Counter[str] = Counter()
    for path, container in containers_of(pod["spec"]):
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        requests = limits | (resources.get("requests") or {})
        amounts: Counter[str] = Counter()
        for part, values in (("limits", limits), ("requests", requests)):
            for name, value in values.items():
                amounts[f"{part}.{name}"] = quantity(value)  # type: ignore[assignment]
        if path.startswith("init") and container.get("restartPolicy") != "Always":
            first |= amounts
        else:
            total += amounts
    return {name: Decimal(amount) for name, amount in (total | first).items()}


def admit(store: Store, kind: Kind, new: Object) -> None:
    """Refuses what a quota of its namespace has no room for."""
    metadata = new["metadata"]
    wanted = _counted(kind.plural, new)
    for quota in store.objects(QUOTAS, metadata["namespace"]):
        hard, name = quota["spec"].get("hard", {}), quota["metadata"]["name"]
        if kind.resource == PODS:
            for resource in hard:
                if resource.rpartition(".")[2] in ("cpu", "memory") and not _states(new, resource):
                    why = f"failed quota: {name}: must specify {resource}"
                    raise forbidden("", "pods", metadata["name"], why)
        before = used(store, quota)
        for resource, limit in hard.items():
            asked = wanted.get(resource, Decimal(0))
            if asked and before[resource] + asked > quantity(limit):
                why = (
                    f"exceeded quota: {name}, requested: {resource}={asked}, "
                    f"used: {resource}={before[resource]}, limited: {resource}={limit}"
                )
                raise forbidden(kind.group, kind.plural, metadata["name"], why)


def used(store: Store, quota: Object) -> Amounts:
    """What there is of each resource that the quota limits."""
    total: Amounts = dict.fromkeys(quota["spec"].get("hard", {}), Decimal(0))
    for plural in ("pods", "persistentvolumeclaims", "secrets", "configmaps", "services"):
        for found in store.objects(("", plural), quota["metadata"]["namespace"]):
            if found.get("status", {}).get("phase") in _TERMINAL:
                continue
            for resource, amount in _counted(plural, found).items():
                if resource in total:
                    total[resource] += amount
    return total


def _counted(plural: str, obj: Object) -> Amounts:
    """The full name of a quota's resource: `cpu` is `requests.cpu`, and so with memory."""
    amounts: Amounts = {plural: Decimal(1)}
    if plural == "pods":
        amounts |= usage(obj)
        for name in ("cpu", "memory"):
            amounts[name] = amounts.get(f"requests.{name}", Decimal(0))
    return amounts


def _states(pod: Object, resource: str) -> bool:
    """Whether each container says how much of it it wants."""
    part, _, name = resource.rpartition(".")
    for _, container in containers_of(pod["spec"]):
        resources = container.get("resources") or {}
        said = dict(resources.get("limits") or {})
        if part != "limits":
            said |= resources.get("requests") or {}
        if name not in said:
            return False
    return True

"""The effects of a changed RayService, by KubeRay 1.7's rules."""

import copy
from decimal import Decimal
from enum import StrEnum

from serving.deploy.objects import Object
from serving.deploy.pods import wanted

_SIZES = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy")
_SCHEDULING = ("tolerations", "schedulingGates")


class Effect(StrEnum):
    nothing = "nothing changes in the Ray cluster"
    resize = (
        "new group sizes apply to the next cluster; the running one keeps its own until they are "
        "changed in its RayCluster too"
    )
    scheduling = (
        "new tolerations and scheduling gates apply to the next cluster; the running one keeps its "
        "own until they are changed in its RayCluster too"
    )
    grow = (
        "the running cluster gets the new groups, and the sizes and tolerations of all; pods that "
        "run stay as they are"
    )
    in_place = "Serve updates the application in the running cluster"
    new_cluster = "a second cluster starts and takes over"
    ignored = "KubeRay ignores the change: upgradeStrategy.type is None"


def effects(old: Object, new: Object) -> tuple[Effect, ...]:
    """The effects of a change from one RayService to another, both as the server returns them."""
    before, after = old["spec"]["rayClusterConfig"], new["spec"]["rayClusterConfig"]
    groups = len(_groups(before))
    if _hashed(before) != _hashed(after, groups):
        strategy = (new["spec"].get("upgradeStrategy") or {}).get("type")
        return (Effect.ignored if strategy == "None" else Effect.new_cluster,)
    found = []
    if old["spec"].get("serveConfigV2") != new["spec"].get("serveConfigV2"):
        found.append(Effect.in_place)
    if len(_groups(after)) > groups:
        found.append(Effect.grow)
    else:
        if _sizes(before) != _sizes(after):
            found.append(Effect.resize)
        if _scheduling(before) != _scheduling(after):
            found.append(Effect.scheduling)
    return tuple(found) or (Effect.nothing,)


def gpus_meanwhile(service: Object) -> int:
    """The least number of GPUs that a second cluster takes while both are up."""
    return int(sum((Decimal(pods.gpus) * pods.count for pods in wanted([service])), Decimal(0)))


def _groups(cluster: Object) -> list[Object]:
    return cluster.get("workerGroupSpecs") or []


def _sizes(cluster: Object) -> list[Object]:
    return [{name: group.get(name) for name in _SIZES} for group in _groups(cluster)]


def _scheduling(cluster: Object) -> list[Object]:
    groups = [cluster["headGroupSpec"], *_groups(cluster)]
    specs = [group["template"].get("spec") or {} for group in groups]
    return [{name: spec.get(name) or [] for name in _SCHEDULING} for spec in specs]


def _hashed(cluster: Object, groups: int | None = None) -> Object:
    """The part of a cluster whose change starts a new one. Worker groups beyond the first `groups`
    are added in place.
    """
    cluster = copy.deepcopy(cluster)
    kept = _groups(cluster)[:groups]
    for group in kept:
        for name in _SIZES:
            group.pop(name, None)
    for template in [cluster["headGroupSpec"], *kept]:
        spec = template["template"].get("spec") or {}
        for name in _SCHEDULING:
            spec.pop(name, None)
    return cluster | {"workerGroupSpecs": kept}

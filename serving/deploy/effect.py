"""The effect of a changed RayService, by KubeRay 1.7's rules."""

import copy
from decimal import Decimal
from enum import StrEnum
from typing import Any

from serving.deploy.pods import wanted

Object = dict[str, Any]

_NOT_HASHED = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy")


class Effect(StrEnum):
    nothing = "nothing changes in the Ray cluster"
    resize = "new group sizes apply to the next cluster; the running one keeps its own"
    in_place = "Serve updates the application in the running cluster"
    new_cluster = "a second cluster starts and takes over"
    ignored = "KubeRay ignores the change: upgradeStrategy.type is None"


def effect(old: Object, new: Object) -> Effect:
    """The effect of a change from one RayService to another, both as the server returns them."""
    before, after = old["spec"], new["spec"]
    if _hashed(before["rayClusterConfig"], None) != _hashed(
        after["rayClusterConfig"], len(before["rayClusterConfig"].get("workerGroupSpecs") or ())
    ):
        strategy = (after.get("upgradeStrategy") or {}).get("type")
        return Effect.ignored if strategy == "None" else Effect.new_cluster
    if before.get("serveConfigV2") != after.get("serveConfigV2"):
        return Effect.in_place
    same = before["rayClusterConfig"] == after["rayClusterConfig"]
    return Effect.nothing if same else Effect.resize


def gpus_meanwhile(service: Object) -> int:
    """The least number of GPUs that a second cluster takes while both are up."""
    return int(sum((Decimal(pods.gpus) * pods.count for pods in wanted([service])), Decimal(0)))


def _hashed(cluster: Object, groups: int | None) -> Object:
    """The part of a cluster whose change starts a new one. Worker groups beyond the first `groups`
    are added in place.
    """
    cluster = copy.deepcopy(cluster)
    kept = (cluster.get("workerGroupSpecs") or [])[:groups]
    for group in kept:
        for name in _NOT_HASHED:
            group.pop(name, None)
    for template in [cluster["headGroupSpec"], *kept]:
        spec = template["template"].get("spec") or {}
        spec.pop("tolerations", None)
        spec.pop("schedulingGates", None)
    return cluster | {"workerGroupSpecs": kept}

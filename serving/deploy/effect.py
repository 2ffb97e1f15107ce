"""The effects of a changed RayService, by the rules of KubeRay 1.7 and Ray Serve 2.60."""

import copy
from decimal import Decimal
from enum import Enum, auto
from typing import Any

import yaml

from serving.deploy.objects import Object
from serving.deploy.pods import wanted

_SIZES = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy")
_NUMBERS = frozenset(("num_replicas", "min_replicas", "max_replicas", "initial_replicas"))
"""Options of a deployment whose change replaces none of its replicas."""
_SCHEDULING = ("tolerations", "schedulingGates")


class Effect(Enum):
    nothing = auto()
    resize = auto()
    scheduling = auto()
    grow = auto()
    scale = auto()
    in_place = auto()
    new_cluster = auto()
    ignored = auto()


_TEXTS = {
    Effect.nothing: "nothing changes in the Ray cluster",
    Effect.resize: "new group sizes apply to the next cluster; the running one keeps its own until "
    "they are changed in its RayCluster too",
    Effect.scheduling: "new tolerations and scheduling gates apply to the next cluster; the "
    "running one keeps its own until they are changed in its RayCluster too",
    Effect.grow: "the running cluster gets the new groups, and the sizes and tolerations of all; "
    "pods that run stay as they are",
    Effect.scale: "Serve changes the numbers of replicas in the running cluster; it replaces none",
    Effect.in_place: "Serve updates the application in the running cluster, and replaces the "
    "replicas that change",
    Effect.new_cluster: "a second cluster starts and takes over: {gpus} more GPUs are in use until "
    "the old one has finished",
    Effect.ignored: "KubeRay ignores the change: upgradeStrategy.type is None",
}


def described(effect: Effect, new: Object) -> str:
    """Returns what the effect of a change to the RayService `new` means, for its operator."""
    return _TEXTS[effect].format(gpus=gpus_meanwhile(new))


def effects(old: Object, new: Object) -> tuple[Effect, ...]:
    """The effects of a change from one RayService to another, both as the server returns them."""
    before, after = old["spec"]["rayClusterConfig"], new["spec"]["rayClusterConfig"]
    groups = len(_groups(before))
    if _hashed(before) != _hashed(after, groups):
        strategy = (new["spec"].get("upgradeStrategy") or {}).get("type")
        return (Effect.ignored if strategy == "None" else Effect.new_cluster,)
    found = []
    if old["spec"].get("serveConfigV2") != new["spec"].get("serveConfigV2"):
        found.append(Effect.scale if _unscaled(old) == _unscaled(new) else Effect.in_place)
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


def _unscaled(service: Object) -> Any:
    """Returns the Serve config without the numbers of replicas that its `deployments` set; as text
    if it is none."""
    text = service["spec"].get("serveConfigV2")
    try:
        config = yaml.safe_load(text)
        for application in config["applications"]:
            named = {each.pop("name"): each for each in application.pop("deployments", None) or []}
            rest = {name: _without_numbers(options) for name, options in named.items()}
            # An autoscaling_config counts even if empty: to have one or not replaces all replicas.
            application["deployments"] = {name: kept for name, kept in rest.items() if kept}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return text
    return config


def _without_numbers(options: Object) -> Object:
    return {
        name: _without_numbers(value) if name == "autoscaling_config" and value else value
        for name, value in options.items()
        if name not in _NUMBERS
    }


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

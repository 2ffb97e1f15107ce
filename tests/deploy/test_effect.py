"""serving/deploy/effect.py: what KubeRay does about a change."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from serving.deploy import manifests
from serving.deploy.effect import Effect, effects, gpus_meanwhile
from tests.cli.deployed import K8S

Object = dict[str, Any]
SERVICE = manifests.read(K8S).service


def cluster(service: Object) -> Object:
    found: Object = service["spec"]["rayClusterConfig"]
    return found


def group(service: Object) -> Object:
    found: Object = cluster(service)["workerGroupSpecs"][-1]
    return found


def container(service: Object) -> Object:
    found: Object = group(service)["template"]["spec"]["containers"][0]
    return found


CHANGES: list[tuple[Callable[[Object], object], tuple[Effect, ...]]] = [
    (lambda s: None, (Effect.nothing,)),
    (lambda s: s["spec"].update(rayClusterDeletionDelaySeconds=5), (Effect.nothing,)),
    (lambda s: s["spec"].update(serveConfigV2="applications: []"), (Effect.in_place,)),
    (lambda s: container(s).update(image="r/i:2"), (Effect.new_cluster,)),
    (lambda s: container(s)["env"].append({"name": "A", "value": "b"}), (Effect.new_cluster,)),
    (lambda s: cluster(s).update(rayVersion="2.61.0"), (Effect.new_cluster,)),
    (lambda s: group(s).update(replicas=3, maxReplicas=8), (Effect.resize,)),
    (lambda s: group(s)["template"]["spec"].update(tolerations=[]), (Effect.scheduling,)),
    (lambda s: cluster(s)["workerGroupSpecs"].append(group(s) | {"groupName": "more"}),
     (Effect.grow,)),
    (lambda s: (s["spec"].update(serveConfigV2="applications: []"), group(s).update(maxReplicas=8)),
     (Effect.in_place, Effect.resize)),
    (lambda s: (group(s).update(maxReplicas=8), group(s)["template"]["spec"].pop("tolerations")),
     (Effect.resize, Effect.scheduling)),
    (lambda s: cluster(s)["headGroupSpec"]["template"]["spec"].update(
        tolerations=[{"key": "team", "operator": "Exists"}]), (Effect.scheduling,)),
    (lambda s: (s["spec"].update(serveConfigV2="applications: []"),
                container(s).update(image="r/i:2")), (Effect.new_cluster,)),
    (lambda s: cluster(s)["workerGroupSpecs"].pop(), (Effect.new_cluster,)),
    (lambda s: (container(s).update(image="r/i:2"),
                s["spec"].update(upgradeStrategy={"type": "None"})), (Effect.ignored,)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_the_effects_of_a_change(
    change: Callable[[Object], object], expected: tuple[Effect, ...]
) -> None:
    new = copy.deepcopy(SERVICE)
    change(new)
    assert effects(SERVICE, new) == expected


def test_a_second_cluster_takes_the_gpus_of_its_least_replicas() -> None:
    assert gpus_meanwhile(SERVICE) == group(SERVICE)["replicas"] * 2

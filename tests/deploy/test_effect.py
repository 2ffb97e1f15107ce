"""serving/deploy/effect.py: what KubeRay does about a change."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

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


def served(*deployments: Object, **args: Any) -> str:
    application: Object = {"import_path": "serving.app:build", "args": args}
    if deployments:
        application["deployments"] = list(deployments)
    return yaml.safe_dump({"applications": [application]})


BOUNDS = {"min_replicas": 1, "max_replicas": 4}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (served(), served({"name": "Router", "num_replicas": 3}), Effect.scale),
        (served({"name": "Router", "num_replicas": 3}), served(), Effect.scale),
        (
            served({"name": "Engine-a", "autoscaling_config": BOUNDS}),
            served({"name": "Engine-a", "autoscaling_config": BOUNDS | {"max_replicas": 8}}),
            Effect.scale,
        ),
        # Serve counts the policies of all that have one as part of the application's version.
        (served(), served({"name": "Engine-a", "autoscaling_config": BOUNDS}), Effect.in_place),
        (
            served({"name": "Router", "num_replicas": 1}),
            served({"name": "Router", "num_replicas": 2, "ray_actor_options": {"num_cpus": 2}}),
            Effect.in_place,
        ),
        (
            served({"name": "Router", "num_replicas": 1}, models=[]),
            served({"name": "Router", "num_replicas": 2}, models=["tiny"]),
            Effect.in_place,
        ),
        (served(), "applications: [", Effect.in_place),
    ],
)
def test_other_numbers_of_replicas_replace_none(before: str, after: str, expected: Effect) -> None:
    old, new = copy.deepcopy(SERVICE), copy.deepcopy(SERVICE)
    old["spec"]["serveConfigV2"], new["spec"]["serveConfigV2"] = before, after
    assert effects(old, new) == (expected,)


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_the_effects_of_a_change(
    change: Callable[[Object], object], expected: tuple[Effect, ...]
) -> None:
    new = copy.deepcopy(SERVICE)
    change(new)
    assert effects(SERVICE, new) == expected


def test_a_second_cluster_takes_the_gpus_of_its_least_replicas() -> None:
    assert gpus_meanwhile(SERVICE) == group(SERVICE)["replicas"] * 2

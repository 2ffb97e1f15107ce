"""Mistakes made in a copy of the manifests, one value at a time."""

import copy
from collections.abc import Sequence
from typing import Any

import typer

from serving.cli.commands import app
from serving.cli.deploy_lint import usage_error, vllm_error
from serving.deploy.finding import Finding
from serving.deploy.lint.linter import lint
from serving.deploy.manifests import Manifests
from tests.k8s.manifests import Object, base

CLUSTER = "spec.rayClusterConfig"
HEAD = f"{CLUSTER}.headGroupSpec"
ROUTER = f"{CLUSTER}.workerGroupSpecs.0"
ENGINE = f"{CLUSTER}.workerGroupSpecs.1"
CONTAINER = "template.spec.containers.0"
POD = "spec.template.spec"
CONFIG = "spec.serveConfigV2"

ENV, SECURITY = f"{CONTAINER}.env.0", f"{CONTAINER}.securityContext"
UPGRADE, OPTIONS = "spec.upgradeStrategy", f"{CLUSTER}.autoscalerOptions"
REDIS = f"{CLUSTER}.gcsFaultToleranceOptions"

RAY, JOB, STATE = "RayService mistral", "Job weights", "StatefulSet redis"

REMOVE = object()

Mistake = tuple[str, str, Any, str]
"""An object, the path of one of its values, what stands there by mistake, and what is said."""


def in_steps(**options: Any) -> dict[str, Any]:
    """An upgradeStrategy in steps, with these clusterUpgradeOptions in place of good ones."""
    good = {"stepSizePercent": 50, "intervalSeconds": 60, "gatewayClassName": "istio"}
    return {
        "type": "NewClusterWithIncrementalUpgrade",
        "clusterUpgradeOptions": good | options,
    }


def short_name(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"


def changed(object_name: str, path: str, value: Any) -> list[Object]:
    """The manifests of k8s/ with one value changed, added or, for REMOVE, taken away."""
    objects = copy.deepcopy(list(base().objects))
    change(objects, object_name, path, value)
    return objects


def change(objects: Sequence[Object], object_name: str, path: str, value: Any) -> None:
    """In place. In the path a ~ stands for a dot within a key."""
    place: Any
    (place,) = [obj for obj in objects if short_name(obj) == object_name]
    parts = [part.replace("~", ".") for part in path.split(".")]
    *parents, last = [int(part) if part.isdigit() else part for part in parts]
    for part in parents:
        place = place[part]
    if value is REMOVE:
        del place[last]
    elif isinstance(place, list) and isinstance(value, dict):
        place.insert(int(last), value)
    else:
        place[last] = value


def linted(objects: Sequence[dict[str, Any]]) -> list[Finding]:
    main = typer.main.get_command(app).main
    manifests = Manifests("", tuple(objects))
    return lint(manifests, lambda arguments: usage_error(main, arguments), vllm_error)

"""Rolls a change out to the running service, and back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.deploy.apply import apply_all, placed, refusals, stripped
from serving.deploy.effect import Effect, effects
from serving.deploy.errors import DeployError
from serving.deploy.follow import Say, follow
from serving.deploy.kube import Kube, named
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.snapshot import take
from serving.deploy.stages import active_cluster, is_up

SETTLE_S = 15.0
"""KubeRay reports an application's old state for some seconds after its config has changed."""

_NOT_RETURNED = ("PersistentVolumeClaim",)
"""Kinds that are not rolled back: claims can only grow."""


@dataclass(frozen=True)
class Plan:
    """A rollout to come. `changed` names the objects that change, `old` are the manifests that
    restore them, and `old_cluster` is the Ray cluster that serves now.
    """

    manifests: Manifests
    effects: tuple[Effect, ...]
    changed: tuple[str, ...]
    old: tuple[Object, ...]
    old_cluster: str


def plan(kube: Kube, manifests: Manifests) -> Plan:
    """Plans a rollout by dry runs. Raises DeployError, also if there is nothing to roll back to."""
    namespace = manifests.namespace
    snapshot = take(kube, namespace)
    if snapshot.service is None or not is_up(snapshot):
        raise DeployError(
            f"the service in {namespace} is not up, so there is nothing to roll back to: see "
            "`mistral-serve deploy status`, and repair it with `mistral-serve deploy apply --wait`"
        )
    changed, old = [], []
    found: tuple[Effect, ...] = (Effect.nothing,)
    for obj in manifests.objects:
        obj, metadata = placed(kube, obj), obj["metadata"]
        live = kube.get(
            obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace", "")
        )
        if obj["kind"] == "Job":  # recreated in any case
            continue
        if live is None:
            changed.append(named(obj))
            continue
        trial = kube.apply(obj, dry_run=True)
        if stripped(trial) == stripped(live):
            continue
        changed.append(named(obj))
        if obj["kind"] == "RayService":
            found = effects(live, trial)
        if obj["kind"] not in _NOT_RETURNED:
            old.append(stripped(live))
    return Plan(manifests, found, tuple(changed), tuple(old), active_cluster(snapshot.service))


def saved(old: tuple[Object, ...], namespace: str) -> Path:
    """Writes the old manifests to a file, for kubectl, and returns its path."""
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"{namespace}-before-", suffix=".yaml", delete=False
    ) as file:
        yaml.safe_dump_all(old, file, sort_keys=False)
    return Path(file.name)


def roll_out(kube: Kube, plan: Plan, timeout_s: float, say: Say) -> None:
    """Applies all manifests, the RayService last, when the weights are there. Raises DeployError,
    and NotUp if the new version does not come up.
    """
    first = [obj for obj in plan.manifests.objects if obj["kind"] not in ("RayService", "Job")]
    jobs = [placed(kube, obj) for obj in plan.manifests.of_kind("Job")]
    for job in jobs:  # it reads its config from a ConfigMap, and must run again
        kube.delete(job)
    _apply(kube, [*first, *jobs])
    namespace = plan.manifests.namespace
    if jobs:
        names = frozenset(job["metadata"]["name"] for job in jobs)
        follow(kube, namespace, timeout_s, say, of=names)
    _apply(kube, [plan.manifests.service])
    wait_for(kube, namespace, plan, timeout_s, say)


def roll_back(kube: Kube, plan: Plan, timeout_s: float, say: Say) -> None:
    """Restores the old manifests. The old weights are still there, so no Job runs again. Raises
    DeployError.
    """
    _apply(kube, plan.old)
    for job in plan.manifests.of_kind("Job"):
        kube.delete(placed(kube, job))
    follow(kube, plan.manifests.namespace, timeout_s, say, settle_s=SETTLE_S)


def wait_for(kube: Kube, namespace: str, plan: Plan, timeout_s: float, say: Say) -> None:
    """Waits until the plan is in force. Raises NotUp."""

    def switched(service: Object) -> bool:
        return Effect.new_cluster not in plan.effects or active_cluster(service) != plan.old_cluster

    follow(kube, namespace, timeout_s, say, until=switched, settle_s=SETTLE_S)


def _apply(kube: Kube, objects: Any) -> None:
    errors = refusals(list(apply_all(kube, objects)))
    if errors:
        raise errors[0]

"""Rolls a change out to the running service, and back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.deploy.apply import apply_all, placed, refusals, stripped
from serving.deploy.changes import Change, changes
from serving.deploy.effect import Effect
from serving.deploy.errors import DeployError
from serving.deploy.follow import Say, follow
from serving.deploy.kube import Kube
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
    """A rollout to come. `old_cluster` is the Ray cluster that serves now."""

    manifests: Manifests
    changes: tuple[Change, ...]
    old_cluster: str

    @property
    def effects(self) -> tuple[Effect, ...]:
        found = (change.effects for change in self.changes)
        return next(filter(None, found), (Effect.nothing,))

    @property
    def old(self) -> list[Object]:
        """The manifests that restore what changes."""
        return [
            stripped(change.live)
            for change in self.changes
            if change.live and change.live["kind"] not in _NOT_RETURNED
        ]


def plan(kube: Kube, manifests: Manifests) -> Plan:
    """Plans a rollout by dry runs. Raises DeployError, also if there is nothing to roll back to."""
    namespace = manifests.namespace
    snapshot = take(kube, namespace)
    if snapshot.service is None or not is_up(snapshot):
        raise DeployError(
            f"the service in {namespace} is not up, so there is nothing to roll back to: see "
            "`mistral-serve deploy status`, and repair it with `mistral-serve deploy apply --wait`"
        )
    objects = [obj for obj in manifests.objects if obj["kind"] != "Job"]  # recreated in any case
    found = tuple(changes(kube, objects))
    return Plan(manifests, found, active_cluster(snapshot.service))


def saved(plan: Plan) -> Path:
    """Writes the old manifests to a file, for kubectl, and returns its path."""
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"{plan.manifests.namespace}-before-", suffix=".yaml", delete=False
    ) as file:
        yaml.safe_dump_all(plan.old, file, sort_keys=False)
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
    new_cluster = Effect.new_cluster in plan.effects

    def switched(service: Object) -> bool:
        return not new_cluster or active_cluster(service) != plan.old_cluster

    follow(kube, namespace, timeout_s, say, until=switched, settle_s=SETTLE_S)


def roll_back(kube: Kube, plan: Plan, timeout_s: float, say: Say) -> None:
    """Restores the old manifests. The old weights are still there, so no Job runs again. Raises
    DeployError.
    """
    _apply(kube, plan.old)
    for job in plan.manifests.of_kind("Job"):
        kube.delete(placed(kube, job))
    follow(kube, plan.manifests.namespace, timeout_s, say, settle_s=SETTLE_S)


def _apply(kube: Kube, objects: Any) -> None:
    errors = refusals(list(apply_all(kube, objects)))
    if errors:
        raise errors[0]

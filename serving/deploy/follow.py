"""Waits for the service to come up, through times in which the API server does not answer."""

import time
from collections.abc import Callable

from serving.deploy.errors import DeployError, ServerTrouble, Unreachable
from serving.deploy.kube import Kube
from serving.deploy.objects import Object
from serving.deploy.progress import Progress
from serving.deploy.snapshot import Snapshot, take

LOOK_EVERY_S = 2.0
LOST_FOR_S = 120.0
"""How long the API server may be silent."""

Say = Callable[[str], None]


class NotUp(DeployError):
    """The service does not come up; the message says what prevents it."""


def follow(
    kube: Kube,
    namespace: str,
    timeout_s: float,
    say: Say,
    *,
    of: frozenset[str] | None = None,
    until: Callable[[Object], bool] = lambda service: True,
    settle_s: float = 0,
) -> None:
    """Returns when all stages, or those named `of`, are done and `until` is true of the
    RayService, both for `settle_s`. `say` gets a line for each change. Raises NotUp.
    """
    progress = Progress(time.monotonic(), timeout_s, of)
    shown: dict[str, list[str]] = {}
    good_since_s: float | None = None
    while True:
        snapshot = _look(kube, namespace, say)
        now_s = time.monotonic()
        there = until(snapshot.service or {})
        give_up = progress.see(snapshot, now_s, there)
        for name, lines in progress.blocks().items():
            if shown.get(name) != lines:
                shown[name] = lines
                for line in lines:
                    say(line)
        if progress.done and there:
            good_since_s = now_s if good_since_s is None else good_since_s
            if now_s - good_since_s >= settle_s:
                return
        else:
            good_since_s = None
        if give_up:
            raise NotUp(give_up)
        time.sleep(LOOK_EVERY_S)


def _look(kube: Kube, namespace: str, say: Say) -> Snapshot:
    """A snapshot, as soon as the API server answers. Raises Unreachable, ServerTrouble."""
    since_s: float | None = None
    while True:
        try:
            snapshot = take(kube, namespace)
        except (Unreachable, ServerTrouble) as error:
            now_s = time.monotonic()
            if since_s is None:
                since_s = now_s
                say(f"{str(error).splitlines()[0]}; trying again")
            if now_s - since_s >= LOST_FOR_S:
                raise
            time.sleep(LOOK_EVERY_S)
        else:
            if since_s is not None:
                say("the cluster answers again")
            return snapshot

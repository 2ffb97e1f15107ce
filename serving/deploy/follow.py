"""Waits for the service to come up, through times in which the API server does not answer."""

import time
from collections.abc import Callable

from serving.deploy.errors import DeployError, ServerTrouble, Unreachable
from serving.deploy.kube import Kube
from serving.deploy.progress import Progress
from serving.deploy.snapshot import Snapshot, take

LOOK_EVERY_S = 2.0
LOST_FOR_S = 120.0
"""The longest silence of the API server."""

Say = Callable[[str], None]


class NotUp(DeployError):
    """The service does not come up; the message says what stands in the way."""


def follow(
    kube: Kube,
    namespace: str,
    timeout_s: float,
    say: Say,
    until: Callable[[Snapshot], bool] = lambda snapshot: True,
) -> None:
    """Returns when the service is up and `until` holds. `say` gets a line for each change.

    Raises NotUp.
    """
    progress = Progress(time.monotonic(), timeout_s)
    shown: dict[str, list[str]] = {}
    answered_at_s = time.monotonic()
    while True:
        try:
            snapshot = take(kube, namespace)
        except (Unreachable, ServerTrouble) as error:
            silent_s = time.monotonic() - answered_at_s
            if silent_s >= LOST_FOR_S:
                raise
            if "cluster" not in shown:
                say(f"{str(error).splitlines()[0]}; trying on")
                shown["cluster"] = []
            time.sleep(LOOK_EVERY_S)
            continue
        if shown.pop("cluster", None) is not None:
            say("the cluster answers again")
        answered_at_s = time.monotonic()
        give_up = progress.see(snapshot, answered_at_s)
        for name, lines in progress.blocks().items():
            if shown.get(name) != lines:
                shown[name] = lines
                for line in lines:
                    say(line)
        if progress.up and until(snapshot):
            return
        if give_up:
            raise NotUp(give_up)
        time.sleep(LOOK_EVERY_S)

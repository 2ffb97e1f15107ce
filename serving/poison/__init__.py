"""Finds the requests that end engines, and remembers them. Pure: no I/O, no clock, no Ray."""

from serving.poison.digest import Digests
from serving.poison.guard import SETTLE_S, PoisonGuard, Trial
from serving.poison.memory import Guilty
from serving.poison.messages import PoisonMessage
from serving.poison.reason import Death, Reason

__all__ = [
    "SETTLE_S",
    "Death",
    "Digests",
    "Guilty",
    "PoisonGuard",
    "PoisonMessage",
    "Reason",
    "Trial",
]

"""The interface of scaling policies."""

from typing import Protocol

from serving.scaling.decision import Decision
from serving.scaling.observed import Observed


class Scaler(Protocol):
    """Decides on the number of replicas of one model. It is called every few seconds, in the order
    of time; its memory is private and may be lost at any moment."""

    def decide(self, observed: Observed, now_s: float) -> Decision: ...

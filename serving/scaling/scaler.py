"""What every scaling policy is."""

from typing import Protocol

from serving.scaling.decision import Decision
from serving.scaling.observed import Observed


class Scaler(Protocol):
    """Decides how many replicas a model is to have. Asked every second or few, for one model, in
    the order of time; what it remembers is its own and may be lost at any moment.
    """

    def decide(self, observed: Observed, now_s: float) -> Decision: ...

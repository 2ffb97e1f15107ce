"""How evenly the requests of a simulated run are spread over its replicas."""

import statistics
from collections.abc import Sequence
from typing import Any

from serving.simulator.replicas import Replica
from serving.simulator.simulation import Simulation


def spread(users: Sequence[int]) -> float:
    """The coefficient of variation of the requests on each replica; 0 if there are none."""
    mean = statistics.fmean(users) if users else 0.0
    return statistics.pstdev(users) / mean if mean else 0.0


class ObservedSpread(Simulation):
    """A simulation that notes the spread over the replicas that are up as each request begins."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._spreads: list[float] = []
        super().__init__(*args, **kwargs)

    @property
    def spread(self) -> float:
        """The mean of what was noted."""
        return statistics.fmean(self._spreads or [0.0])

    def _begin(
        self, reservation: Any, outcome: Any, router: int, replica: Replica, now_s: float
    ) -> None:
        before = replica.users
        super()._begin(reservation, outcome, router, replica, now_s)
        if replica.users > before:
            self._spreads.append(spread([one.users for one in self._replicas.up]))

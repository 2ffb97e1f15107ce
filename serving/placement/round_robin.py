"""Placement in turn."""

from collections.abc import Sequence

from serving.placement.load import ReplicaLoad
from serving.placement.work import Work


class RoundRobin:
    """Each replica in turn, whatever its load."""

    def __init__(self) -> None:
        self._placed = 0

    def choose(
        self,
        work: Work,
        loads: Sequence[ReplicaLoad],
        cached_tokens: Sequence[int],
        now_s: float,
    ) -> int:
        if not loads:
            raise ValueError("no replica to choose from")
        self._placed += 1
        return (self._placed - 1) % len(loads)

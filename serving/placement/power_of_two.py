"""Placement by the better of two at random."""

import random
from collections.abc import Sequence

from serving.placement.load import ReplicaLoad
from serving.placement.work import Work


class PowerOfTwo:
    """Of two different replicas taken at random, the one with fewer requests."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def choose(
        self,
        work: Work,
        loads: Sequence[ReplicaLoad],
        cached_tokens: Sequence[int],
        now_s: float,
    ) -> int:
        if not loads:
            raise ValueError("no replica to choose from")
        two = self._random.sample(range(len(loads)), min(2, len(loads)))
        return min(two, key=lambda i: loads[i].requests)

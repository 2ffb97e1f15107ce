"""The rate at which work arrives, by priority."""

import math

from serving.dispatch.request import PRIORITIES

_MEMORY_S = 30.0


class ArrivalRate:
    """Arrival rates in parts of a replica per second, by priority: averaged over about half a
    minute and starting from 0, so that a first burst is not taken for a lasting rate."""

    def __init__(self, now_s: float) -> None:
        self._per_s = [0.0] * PRIORITIES
        self._now_s = now_s

    def add(self, priority: int, share: float, now_s: float) -> None:
        kept = math.exp((self._now_s - now_s) / _MEMORY_S)
        self._per_s = [per_s * kept for per_s in self._per_s]
        self._now_s = now_s
        self._per_s[priority] += share / _MEMORY_S

    def above_per_s(self, priority: int, now_s: float) -> float:
        """Returns the arrival rate of all higher priorities together."""
        above = sum(self._per_s[priority + 1 :])
        return above * math.exp((self._now_s - now_s) / _MEMORY_S) if above else 0.0

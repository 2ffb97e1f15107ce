"""How much comes in of each priority."""

import math

_MEMORY_S = 30.0


class Flow:
    """Parts of a replica per second, by priority."""

    def __init__(self, priorities: int, now_s: float) -> None:
        self._sums = [0.0] * priorities
        self._began_s = now_s - 1.0
        self._now_s = now_s

    def add(self, priority: int, share: float, now_s: float) -> None:
        self._advance(now_s)
        self._sums[priority] += share

    def above_per_s(self, priority: int, now_s: float) -> float:
        """Of all higher priorities together."""
        above = sum(self._sums[priority + 1 :])
        if above <= 0:
            return 0.0
        # As long as the memory is, or as the flow has been watched.
        span_s = _MEMORY_S * (1 - math.exp((self._began_s - now_s) / _MEMORY_S))
        return above * math.exp((self._now_s - now_s) / _MEMORY_S) / span_s

    def _advance(self, now_s: float) -> None:
        kept = math.exp((self._now_s - now_s) / _MEMORY_S)
        self._sums = [total * kept for total in self._sums]
        self._now_s = now_s

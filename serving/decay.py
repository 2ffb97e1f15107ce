"""Exponential forgetting with a time constant."""

from math import exp


def kept(elapsed_s: float, time_constant_s: float) -> float:
    """Returns the share of a past quantity that still counts after `elapsed_s`."""
    return exp(-elapsed_s / time_constant_s)


class DecayingSum:
    """A sum whose terms are forgotten exponentially. Fed at a constant rate, it approaches the rate
    times the time constant."""

    __slots__ = ("_at_s", "_sum", "_time_constant_s")

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._sum = 0.0
        self._at_s = 0.0

    def add(self, amount: float, now_s: float) -> None:
        self._sum = self.at(now_s) + amount
        self._at_s = now_s

    def at(self, now_s: float) -> float:
        return self._sum * kept(now_s - self._at_s, self._time_constant_s)

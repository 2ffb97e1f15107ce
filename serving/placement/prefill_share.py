"""How much of a replica's time goes into prefill."""

from math import exp

_RECENT_S = 20.0
"""Time constant with which the past is forgotten. By simulation: with 8 s a few long prompts close
a replica that could take more, with 45 s a crowd of them has slowed it down before it counts."""


class PrefillShare:
    """The part of its time that a replica takes for the prompts that it was given recently, as long
    as they go on coming as they did. Above 1 they are more than it can prefill.
    """

    __slots__ = ("_at_s", "_recent_ms")

    def __init__(self) -> None:
        self._recent_ms = 0.0
        self._at_s = 0.0

    def add(self, prefill_ms: float, now_s: float) -> None:
        self._recent_ms = self._recent(now_s) + prefill_ms
        self._at_s = now_s

    def at(self, now_s: float) -> float:
        return self._recent(now_s) / (1000 * _RECENT_S)

    def _recent(self, now_s: float) -> float:
        return self._recent_ms * exp((self._at_s - now_s) / _RECENT_S)

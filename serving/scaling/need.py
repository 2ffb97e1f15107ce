"""How many replicas a signal asks for."""

from dataclasses import dataclass, replace
from math import ceil, inf, isfinite

from serving.scaling.decision import Bound, Decision, Signal
from serving.scaling.observed import Observed

_MOST_BUSY = 0.95
"""Part of the time for prefill that is reckoned with: beyond, answers would take for ever."""


@dataclass(frozen=True, slots=True)
class Need:
    """`low` and `high` are bounds of the demand, `target` is what a replica is to take of it."""

    signal: Signal
    target: float
    low: float
    high: float

    @property
    def at_least(self) -> int:
        return _replicas(self.low, self.target)

    @property
    def at_most(self) -> float:
        return _replicas(self.high, self.target) if isfinite(self.high) else inf

    def with_fewer(self, observed: Observed, prefill_tokens_per_s: float) -> "Need":
        """`high` as it would be with one replica less. The others have more to prefill then, in
        which time they decode less: answers take longer, and hold cache and batch for longer.
        """
        if self.signal not in ("kv_cache", "batch") or observed.up < 2:
            return self
        prefill = prefill_tokens_per_s / observed.prefill_tokens_per_s
        fewer = min(observed.up, observed.replicas - 1)
        stretch = _time_to_decode(prefill / observed.up) / _time_to_decode(prefill / fewer)
        return replace(self, high=self.high * stretch)

    def decision(self, replicas: int, value: float, bound: Bound = "") -> Decision:
        return Decision(replicas, self.signal, value, self.target, bound)


def _replicas(demand: float, target: float) -> int:
    return ceil(demand / target - 1e-9)


def _time_to_decode(prefill: float) -> float:
    """Part of its time that is left to a replica which prefills for such a part of it."""
    return 1 - min(prefill, _MOST_BUSY)

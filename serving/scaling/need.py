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

    def with_fewer(self, fewer: "WithFewer") -> "Need":
        """`high` as it would be with one replica less."""
        if self.signal in ("kv_cache", "batch"):
            return replace(self, high=self.high * fewer.stay)
        if self.signal == "prefill":
            return replace(self, high=self.high + fewer.prefill_tokens_per_s)
        return self

    def decision(self, replicas: int, value: float, bound: Bound = "") -> Decision:
        return Decision(replicas, self.signal, value, self.target, bound)


def _replicas(demand: float, target: float) -> int:
    return ceil(demand / target - 1e-9)


@dataclass(frozen=True, slots=True)
class WithFewer:
    """What changes with one replica less."""

    stay: float = 1.0
    """So many times as long as now does a request stay."""
    prefill_tokens_per_s: float = 0.0
    """Comes on top, for what only the one that goes has cached."""

    @classmethod
    def of(cls, observed: Observed, prefill_tokens_per_s: float, window_s: float) -> "WithFewer":
        """The others have more to prefill, at first its cache, in which time they decode less, and
        their steps read more. `prefill_tokens_per_s`: on average; the cache comes back within the
        window.
        """
        up, fewer = observed.up, min(observed.up, observed.replicas - 1)
        if fewer < 1 or fewer == up:
            return cls()
        lost = min(observed.cached_prompt_tokens_per_s / up, observed.kv_cache_tokens / window_s)
        each = observed.prefill_tokens_per_s
        kv_cache = observed.running_kv_tokens / observed.kv_cache_tokens
        stay = _step(kv_cache / fewer) / _time_to_decode(
            (prefill_tokens_per_s + lost) / each / fewer
        )
        stay /= _step(kv_cache / up) / _time_to_decode(prefill_tokens_per_s / each / up)
        return cls(stay, lost)


def _step(kv_cache: float) -> float:
    """The time of a decode step, by the part of the KV cache that it reads. It reads the weights
    too, of which there is about as much."""
    return 1 + min(kv_cache, 1.0)


def _time_to_decode(prefill: float) -> float:
    """Part of its time that is left to a replica which prefills for such a part of it."""
    return 1 - min(prefill, _MOST_BUSY)

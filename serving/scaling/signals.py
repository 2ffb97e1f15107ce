"""The signals of a model: each compares a demand with what a replica can take."""

from dataclasses import dataclass
from math import ceil

from serving.scaling.decision import Bound, Decision, Signal
from serving.scaling.observed import Observed

HEADROOM = 0.2
"""Share of the KV cache and the batch that is kept free for uneven loads."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A demand and the part of it that one replica is to take, in the same unit."""

    signal: Signal
    demand: float
    target: float

    @property
    def replicas(self) -> int:
        """Number of replicas that this signal asks for."""
        return ceil(self.demand / self.target - 1e-9)

    def decision(self, replicas: int, bound: Bound = "") -> Decision:
        return Decision(replicas, self.signal, self.demand, self.target, bound)


def readings(observed: Observed, prefill_utilization: float, horizon_s: float) -> list[Reading]:
    """Compares each demand with what a replica takes if prefill has `prefill_utilization` of its
    time. Waiting requests are to be served within the horizon, one after the other in the same
    place."""
    at_once = min(1.0, observed.residence_time_s / horizon_s)
    return [
        Reading(
            "prefill",
            observed.offered_prefill_tokens_per_s,
            observed.prefill_tokens_per_s * prefill_utilization,
        ),
        Reading(
            "kv_cache",
            observed.running_kv_tokens + observed.waiting_kv_tokens * at_once,
            observed.kv_cache_tokens * (1 - HEADROOM),
        ),
        Reading(
            "batch",
            observed.running_requests + observed.waiting_requests * at_once,
            observed.max_num_seqs * (1 - HEADROOM),
        ),
    ]

"""What the routers of a run know of the work that is asked for, as a scaling policy sees it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import fmean

from serving.placement.load import ReplicaLoad
from serving.scaling.observed import Observed
from serving.simulator.engine import EngineSpec


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request without a replica."""

    kv_tokens: int
    uncached_tokens: int


class Demand:
    """Counts what is offered between two looks, and how long replicas take to start."""

    def __init__(self, spec: EngineSpec, startup_s: float) -> None:
        """`startup_s` is what is expected until one was measured."""
        self._spec = spec
        self._startup_s = startup_s
        self._offered_tokens = 0
        self._looked_s = 0.0
        self._prefill_tokens_per_s = spec.step_time.prefill_tokens_per_s

    def offer(self, uncached_tokens: int) -> None:
        self._offered_tokens += uncached_tokens

    def started(self, seconds: float) -> None:
        self._startup_s = seconds

    def observe(
        self,
        loads: Collection[ReplicaLoad],
        waiting: Iterable[Waiting],
        *,
        up: int,
        starting: int,
        draining: int,
        now_s: float,
    ) -> Observed:
        """Since the last time; `loads` are of the replicas that are up."""
        seconds = now_s - self._looked_s
        offered = self._offered_tokens / seconds if seconds > 0 else 0.0
        self._offered_tokens, self._looked_s = 0, now_s
        if loads:
            self._prefill_tokens_per_s = fmean(load.rates.prefill_tokens_per_s for load in loads)
        without = list(waiting)
        return Observed(
            up=up,
            starting=starting,
            draining=draining,
            offered_prefill_tokens_per_s=offered,
            prefill_tokens_per_s=self._prefill_tokens_per_s,
            running_kv_tokens=sum(load.kv_tokens for load in loads),
            waiting_kv_tokens=sum(one.kv_tokens for one in without),
            kv_cache_tokens=self._spec.kv_cache_tokens,
            running_requests=sum(load.requests for load in loads),
            waiting_requests=len(without),
            max_num_seqs=self._spec.max_num_seqs,
            waiting_prefill_tokens=sum(one.uncached_tokens for one in without),
            startup_s=self._startup_s,
        )


def replicas_needed(observed: Observed) -> float:
    """What is asked for at this moment in replicas that are wholly used: by the prefill that is
    offered, the KV cache or the batch, whichever needs most.
    """
    kv_tokens = observed.running_kv_tokens + observed.waiting_kv_tokens
    requests = observed.running_requests + observed.waiting_requests
    return max(
        observed.offered_prefill_tokens_per_s / observed.prefill_tokens_per_s,
        kv_tokens / observed.kv_cache_tokens,
        requests / observed.max_num_seqs,
    )

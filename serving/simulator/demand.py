"""What the routers of a run tell of the work that is asked for, as the live ones do."""

from collections.abc import Sequence

from serving.admission.drain import DrainRate
from serving.placement.fleet import Fleet
from serving.scaling import Observed
from serving.scaling.arrivals import Arrivals
from serving.scaling.moments import observed_at
from serving.scaling.report import Report, Told
from serving.scaling.startup import StartupTime
from serving.simulator.engine import EngineSpec


class Demand:
    """Of each router its `arrivals`; `observe` puts together what they tell."""

    def __init__(self, spec: EngineSpec, routers: int, startup_s: float) -> None:
        """`startup_s`: a first guess."""
        self.arrivals = [Arrivals() for _ in range(routers)]
        self._spec = spec
        self._startup = StartupTime(startup_s)
        self._prefill_tokens_per_s = spec.step_time.prefill_tokens_per_s
        self._told: list[Told] = []

    def observe(
        self,
        fleets: Sequence[Fleet],
        drains: Sequence[DrainRate],
        *,
        up: int,
        starting: int,
        draining: int,
        now_s: float,
    ) -> Observed | None:
        """Since the last time; None at the first. `fleets` and `drains` by router."""
        self._startup.observe(up, starting, now_s)
        told = [
            Told(now_s, self._report(*of_router, draining))
            for of_router in zip(self.arrivals, fleets, drains, strict=True)
        ]
        before, self._told = self._told, told
        if not before or before[0].at_s == now_s:
            return None
        return observed_at(
            {str(router): pair for router, pair in enumerate(zip(before, told, strict=True))},
            before[0].at_s,
            now_s,
            up=up,
            starting=starting,
            startup_s=self._startup.seconds(now_s),
        )

    def _report(self, arrivals: Arrivals, fleet: Fleet, drain: DrainRate, draining: int) -> Report:
        loads = fleet.loads.values()
        learnt = [load.rates for load in loads if load.rates.prefill_is_learnt]
        if learnt:
            rates = [rates.prefill_tokens_per_s for rates in learnt]
            self._prefill_tokens_per_s = sum(rates) / len(rates)
        return Report(
            offered_prefill_tokens=arrivals.prefill_tokens,
            waiting_prefill_tokens=arrivals.waiting_prefill_tokens,
            waiting_kv_tokens=arrivals.waiting_kv_tokens,
            waiting_requests=arrivals.waiting_requests,
            running_kv_tokens=sum(load.kv_tokens for load in loads),
            running_requests=sum(load.requests for load in loads),
            draining=draining,
            prefill_tokens_per_s=self._prefill_tokens_per_s,
            kv_cache_tokens=self._spec.kv_cache_tokens,
            max_num_seqs=self._spec.max_num_seqs,
            stay_s=drain.stay_s,
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

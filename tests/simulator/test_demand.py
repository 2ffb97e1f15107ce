import dataclasses

import pytest

from serving.admission.drain import DrainRate
from serving.placement import Ended, Fleet, LeastCost
from serving.scaling import Observed
from serving.simulator.demand import Demand, replicas_needed
from tests.placement.works import work
from tests.simulator.engines import mistral_small

SPEC = dataclasses.replace(mistral_small(), kv_cache_tokens=100_000, max_num_seqs=50)


class Routers:
    def __init__(self, routers: int = 1, replicas: int = 2) -> None:
        self.demand = Demand(SPEC, routers, startup_s=90.0)
        self.fleets = [Fleet(LeastCost()) for _ in range(routers)]
        self.drains = [DrainRate(10.0, 0.0) for _ in range(routers)]
        for fleet in self.fleets:
            for number in range(replicas):
                fleet.add(f"r{number}", SPEC.kv_cache_tokens, SPEC.max_num_seqs)
        assert self.look(0.0) is None

    def look(self, now_s: float, up: int = 2, starting: int = 0) -> Observed | None:
        return self.demand.observe(
            self.fleets, self.drains, up=up, starting=starting, draining=1, now_s=now_s
        )

    def observed(self, now_s: float, up: int = 2, starting: int = 0) -> Observed:
        observed = self.look(now_s, up, starting)
        assert observed is not None
        return observed


def test_what_is_offered_counts_since_the_last_look_at_all_routers() -> None:
    routers = Routers(2)
    for arrivals, tokens in zip(routers.demand.arrivals, (1000, 3000), strict=True):
        arrivals.come(5000, 0, returns=False).count(tokens)
    observed = routers.observed(2.0)
    assert observed.offered_prefill_tokens_per_s == 2000
    assert observed.cached_prompt_tokens_per_s == 3000
    routers.demand.arrivals[1].come(5000, 0, returns=False).count(300)
    assert routers.observed(5.0).offered_prefill_tokens_per_s == 100
    assert routers.observed(6.0).offered_prefill_tokens_per_s == 0


def test_what_runs_is_known_to_each_router_and_what_waits_to_its_own() -> None:
    routers = Routers(2)
    for fleet in routers.fleets:
        for _ in range(3):
            placed = fleet.decide(work(prompt_tokens=900, output_tokens=100), ["r0", "r1"], 0.0)
            fleet.apply(placed, 0.0)
    for arrivals in routers.demand.arrivals:
        arrivals.come(4900, 5000, returns=False).waits(4000)
    observed = routers.observed(1.0)
    assert (observed.running_requests, observed.running_kv_tokens) == (3, 3000)
    assert (observed.waiting_requests, observed.waiting_kv_tokens) == (2, 10_000)
    assert observed.waiting_prefill_tokens == 8000
    assert (observed.up, observed.draining) == (2, 1)
    assert observed.kv_cache_tokens == SPEC.kv_cache_tokens
    assert replicas_needed(observed) == pytest.approx(8000 / observed.prefill_tokens_per_s)


def test_the_rate_of_a_replica_is_learnt_and_stays_known_when_none_is_up() -> None:
    routers = Routers()
    guessed = SPEC.step_time.prefill_tokens_per_s
    assert routers.observed(1.0).prefill_tokens_per_s == guessed
    fleet = routers.fleets[0]
    for _ in range(200):
        fleet.loads["r0"].rates.observe_first_token(10_000, 500)
    learnt = routers.observed(2.0).prefill_tokens_per_s
    assert learnt == fleet.loads["r0"].rates.prefill_tokens_per_s != guessed
    for replica_id in ("r0", "r1"):
        fleet.remove(replica_id)
    fleet.apply(Ended(1), 3.0)
    assert routers.observed(4.0, up=0).prefill_tokens_per_s == learnt


def test_start_up_is_guessed_until_it_is_measured() -> None:
    routers = Routers()
    assert routers.observed(1.0, up=2, starting=1).startup_s == 90.0
    assert routers.observed(41.0, up=3).startup_s == 40.0

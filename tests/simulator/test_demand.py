import dataclasses

import pytest

from serving.dispatch import Dispatcher, Limits, Request, Reservation
from serving.placement import Capacity, LeastCost, Rates
from serving.scaling import Observed
from serving.simulator.demand import Demand, replicas_needed
from tests.placement.works import work
from tests.simulator.engines import mistral_small

SPEC = dataclasses.replace(mistral_small(), kv_cache_tokens=100_000, max_num_seqs=50)
CAPACITY = Capacity(SPEC.kv_cache_tokens, SPEC.max_num_seqs)


class Routers:
    def __init__(self, routers: int = 1, replicas: int = 2) -> None:
        limits = Limits(max_waiting=100, max_wait_s=30, startup_s=90)
        self.dispatchers = [
            Dispatcher(LeastCost(), CAPACITY, limits, now_s=0, first_rates=Rates)
            for _ in range(routers)
        ]
        self.update(replicas)
        self.demand = Demand(self.dispatchers, startup_s=90.0)
        assert self.demand.observe(up=replicas, starting=0, now_s=0.0) is None

    def update(self, replicas: int) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.update({f"r{number}": CAPACITY for number in range(replicas)}, 0.0)

    def submit(self, router: int, prompt_tokens: int) -> None:
        asked = Request(work(prompt_tokens=prompt_tokens, output_tokens=100))
        assert isinstance(self.dispatchers[router].submit(asked, 0.0), Reservation)

    def observed(self, now_s: float, up: int = 2, starting: int = 0) -> Observed:
        observed = self.demand.observe(up=up, starting=starting, now_s=now_s)
        assert observed is not None
        return observed


def test_what_is_offered_counts_since_the_last_look_at_all_routers() -> None:
    routers = Routers(2)
    routers.submit(0, 1000)
    routers.submit(1, 3000)
    assert routers.observed(2.0).offered_prefill_tokens_per_s == 2000
    routers.submit(1, 300)
    assert routers.observed(5.0).offered_prefill_tokens_per_s == 100
    assert routers.observed(6.0).offered_prefill_tokens_per_s == 0


def test_what_runs_is_known_to_each_router_and_what_waits_to_its_own() -> None:
    routers = Routers(2)
    for _ in range(3):
        routers.submit(0, 900)
    routers.dispatchers[1].sync.receive("0", routers.dispatchers[0].sync.snapshot(), 0.0)
    observed = routers.observed(1.0)
    assert (observed.running_requests, observed.running_kv_tokens) == (3, 3000)
    routers.update(0)
    for router in range(2):
        routers.submit(router, 4000)
    observed = routers.observed(2.0, up=0)
    assert (observed.waiting_requests, observed.waiting_kv_tokens) == (2, 8200)
    assert observed.waiting_prefill_tokens == 8000
    assert (observed.up, observed.draining) == (0, 2)
    assert observed.kv_cache_tokens == SPEC.kv_cache_tokens
    assert replicas_needed(observed) == pytest.approx(8000 / observed.prefill_tokens_per_s)


def test_start_up_is_guessed_until_it_is_measured() -> None:
    routers = Routers()
    assert routers.observed(1.0, up=2, starting=1).startup_s == 90.0
    assert routers.observed(41.0, up=3).startup_s == 40.0

import dataclasses

import pytest

from serving.placement import ReplicaLoad
from serving.simulator.demand import Demand, Waiting, replicas_needed
from serving.simulator.gpus import mistral_small
from tests.placement.works import work

SPEC = dataclasses.replace(mistral_small(), kv_cache_tokens=100_000, max_num_seqs=50)


def test_what_is_offered_counts_since_the_last_look() -> None:
    demand = Demand(SPEC, 90.0)

    def offered_per_s(now_s: float) -> float:
        observed = demand.observe([], [], up=1, starting=0, draining=0, now_s=now_s)
        return observed.offered_prefill_tokens_per_s

    demand.offer(1000)
    demand.offer(3000)
    assert offered_per_s(2.0) == 2000
    demand.offer(300)
    assert offered_per_s(5.0) == 100
    assert offered_per_s(5.0) == 0


def test_the_ledger_and_the_line_are_added_up() -> None:
    demand = Demand(SPEC, 90.0)
    loads = [ReplicaLoad("a"), ReplicaLoad("b")]
    for load in loads:
        load.book(work(prompt_tokens=900, output_tokens=100), 0, now_s=0.0)
    waiting = [Waiting(5000, 4000), Waiting(3000, 100)]
    observed = demand.observe(loads, waiting, up=2, starting=3, draining=1, now_s=1.0)
    assert (observed.up, observed.starting, observed.draining) == (2, 3, 1)
    assert (observed.running_requests, observed.running_kv_tokens) == (2, 2000)
    assert (observed.waiting_requests, observed.waiting_kv_tokens) == (2, 8000)
    assert observed.waiting_prefill_tokens == 4100
    assert observed.prefill_tokens_per_s == pytest.approx(11_000)
    assert replicas_needed(observed) == pytest.approx(0.1)


def test_start_up_is_what_was_measured_last_and_before_what_is_expected() -> None:
    demand = Demand(SPEC, 90.0)
    look = dict(up=0, starting=1, draining=0, now_s=1.0)
    assert demand.observe([], [], **look).startup_s == 90.0  # type: ignore[arg-type]
    demand.started(75.0)
    assert demand.observe([], [], **look).startup_s == 75.0  # type: ignore[arg-type]


def test_the_rate_of_a_replica_stays_known_when_none_is_up() -> None:
    demand = Demand(SPEC, 90.0)
    look = dict(starting=0, draining=0, now_s=1.0)
    first = demand.observe([], [], up=0, **look)  # type: ignore[arg-type]
    assert first.prefill_tokens_per_s == SPEC.step_time.prefill_tokens_per_s
    demand.observe([ReplicaLoad("a")], [], up=1, **look)  # type: ignore[arg-type]
    after = demand.observe([], [], up=0, **look)  # type: ignore[arg-type]
    assert after.prefill_tokens_per_s == pytest.approx(11_000)

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from serving.placement import Fleet, LeastCost, Policy, ReplicaLoad, RoundRobin, Work
from serving.simulator.result import Result
from serving.simulator.simulation import NO_REPLICA, Simulation
from serving.simulator.workload import Arrival
from tests.bench.spread import ObservedSpread
from tests.simulator.engines import mistral_small
from tests.support.loads import sessions, shared_prefixes
from tests.support.summary import summary_of

SPEC = mistral_small(2)


class MostCached:
    """Places all on the first replica until something is known to be cached."""

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        return max(range(len(loads)), key=lambda i: cached_tokens[i])


def simulate(
    arrivals: list[Arrival],
    policy: Callable[[], Policy],
    *,
    replicas: int = 4,
    routers: int = 1,
    lag_s: float | None = None,
    joins_s: Sequence[float] = (),
    max_num_seqs: int = 256,
    max_wait_s: float | None = None,
) -> tuple[Result, list[Fleet]]:
    simulation = Simulation(
        dataclasses.replace(SPEC, max_num_seqs=max_num_seqs),
        replicas,
        policy,
        output_tokens=500,
        routers=routers,
        lag_s=lag_s,
        joins_s=joins_s,
        max_wait_s=max_wait_s,
    )
    return simulation.run(arrivals), [one.fleet for one in simulation.dispatchers]


def test_every_request_ends_and_every_booking_is_released() -> None:
    result, (fleet,) = simulate(shared_prefixes(200, 10.0), RoundRobin)
    assert len(result.outcomes) == 200
    assert all(outcome.end_s is not None for outcome in result.outcomes)
    assert [outcome.replica for outcome in result.outcomes[:5]] == [0, 1, 2, 3, 0]
    for load in fleet.loads.values():
        assert (load.requests, load.prefill_tokens, load.kv_tokens) == (0, 0, 0)


def test_the_index_knows_what_the_engines_have_cached() -> None:
    result, _ = simulate(shared_prefixes(100, 5.0, prefixes=3), MostCached)
    assert {outcome.replica for outcome in result.outcomes} == {0}
    assert summary_of(result).hit_rate > 0.8


def test_the_spread_is_over_the_replicas_that_are_up() -> None:
    simulation = ObservedSpread(SPEC, 2, MostCached, output_tokens=500)
    simulation.run(shared_prefixes(100, 5.0, prefixes=3))
    assert simulation.spread == pytest.approx(1.0), "all are on one of two"


def test_turns_follow_answers_and_find_them_cached() -> None:
    result, _ = simulate(sessions(40, 2.0), MostCached)
    assert len(result.outcomes) > 150
    ends_s: dict[str | None, float] = {}
    for outcome in result.outcomes:
        prefix, session = outcome.request.prefix, outcome.request.session
        assert outcome.sent_s > ends_s.get(session, 0.0)
        assert outcome.end_s is not None
        ends_s[session] = outcome.end_s
        if prefix.answer is not None:
            answered_tokens = prefix.ends_tokens[prefix.answer[1] - 1]
            assert outcome.cached_tokens > answered_tokens - 2 * SPEC.block_tokens


def test_a_replica_that_joins_gets_work_at_once() -> None:
    result, _ = simulate(shared_prefixes(400, 20.0), LeastCost, replicas=2, joins_s=[5.0])
    after = [outcome for outcome in result.outcomes if outcome.sent_s > 5.0]
    assert 2 in {outcome.replica for outcome in after[:10]}
    assert not any(outcome.replica == 2 for outcome in result.outcomes if outcome.sent_s < 5.0)


@pytest.mark.parametrize("lag_s", [0.0, 0.02])
def test_routers_that_share_know_of_each_other_and_release_alike(lag_s: float) -> None:
    arrivals = shared_prefixes(300, 10.0)
    shared, fleets = simulate(arrivals, LeastCost, routers=3, lag_s=lag_s)
    apart, _ = simulate(arrivals, LeastCost, routers=3, lag_s=None)
    assert summary_of(shared).hit_rate > summary_of(apart).hit_rate + 0.05
    for fleet in fleets:
        assert [load.requests for load in fleet.loads.values()] == [0, 0, 0, 0]


def test_what_there_is_no_room_for_waits_and_is_refused_when_it_waits_too_long() -> None:
    arrivals = shared_prefixes(300, 10.0)
    result, (fleet,) = simulate(arrivals, LeastCost, replicas=1, max_num_seqs=20, max_wait_s=5)
    served = [outcome for outcome in result.outcomes if outcome.end_s is not None]
    refused = [outcome for outcome in result.outcomes if outcome.end_s is None]
    assert len(result.outcomes) == 300
    assert len(refused) > 100
    assert {outcome.replica for outcome in refused} == {NO_REPLICA}
    ttfts_s = [outcome.ttft_s or 0.0 for outcome in served]
    assert 4 < max(ttfts_s) < 6
    assert fleet.loads["replica-0"].requests == 0


def test_a_full_fleet_still_sends_prompts_where_they_are_cached() -> None:
    arrivals = shared_prefixes(2000, 24.0)
    result, _ = simulate(arrivals, LeastCost, replicas=8, max_num_seqs=48, max_wait_s=30)
    summary = summary_of(result)
    assert summary.refused > 100
    assert summary.hit_rate > 0.8


@pytest.mark.parametrize("lag_s", [0.02, None])
def test_routers_that_share_have_quotas_of_the_replicas(lag_s: float | None) -> None:
    simulation = Simulation(SPEC, 4, LeastCost, routers=3, lag_s=lag_s, max_wait_s=5)
    simulation.run(shared_prefixes(100, 20.0))
    quotas = [dispatcher.sync.quota for dispatcher in simulation.dispatchers]
    if lag_s is None:
        assert quotas == [None] * 3
    else:
        assert sum(quota or 0.0 for quota in quotas) == pytest.approx(4 * 1.25, rel=0.1)


def test_a_place_is_kept_for_who_was_rejected() -> None:
    spec = dataclasses.replace(SPEC, max_num_seqs=10)
    simulation = Simulation(spec, 1, LeastCost, output_tokens=500, max_wait_s=5)
    simulation.run(shared_prefixes(300, 10.0))
    report = simulation.dispatchers[0].report()
    assert report.waiting_requests > 0 and report.waiting_kv_tokens > 0

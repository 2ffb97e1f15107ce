import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.scaling import Decision, ScalingConfig, ScalingPolicy
from tests.scaling.fleet import PREFILL_TOKENS_PER_S, PROMPT_TOKENS, Fleet, Load, observed

A_REPLICA = PREFILL_TOKENS_PER_S / PROMPT_TOKENS
"""Requests per second whose prefill takes all of a replica's time."""


def policy(min_replicas: int = 1, max_replicas: int = 50) -> ScalingPolicy:
    config = ScalingConfig(
        min_replicas=min_replicas, max_replicas=max_replicas, prefill_utilization=0.8
    )
    return ScalingPolicy(config)


def settled(policy: ScalingPolicy, replicas: int, **values: float) -> Decision:
    """The decision after three minutes of the same load."""
    for second in range(0, 180, 2):
        decision = policy.decide(observed(replicas, **values), second)
    return decision


# Each signal


@pytest.mark.parametrize(
    ("signal", "values", "replicas"),
    [
        ("prefill", {"offered_prefill_tokens_per_s": 31_000}, 4),
        ("kv_cache", {"running_kv_tokens": 390_000, "running_requests": 100_000}, 5),
        ("batch", {"running_requests": 790, "running_kv_tokens": 1}, 5),
    ],
)
def test_a_signal_asks_for_what_its_demand_needs(
    signal: str, values: dict[str, float], replicas: int
) -> None:
    if signal == "kv_cache":
        values["max_num_seqs"] = 1e9
    decision = settled(policy(), 1, **values)
    assert (decision.signal, decision.replicas, decision.bound) == (signal, replicas, "")
    assert decision.value / decision.target <= replicas


def test_the_line_is_to_be_done_by_the_time_that_replicas_need() -> None:
    values = {"waiting_prefill_tokens": 1_800_000, "waiting_requests": 1}
    decision = settled(policy(), 1, **values)
    assert (decision.signal, decision.replicas) == ("waiting", 3)
    assert decision.value == 30_000


def test_the_signal_that_needs_most_decides() -> None:
    decision = settled(policy(), 1, offered_prefill_tokens_per_s=30_000, running_requests=1_500)
    assert decision.signal == "batch"


# Up


def test_a_step_takes_one_decision_or_two() -> None:
    fleet = Fleet(policy(), 1)
    fleet.run(lambda now_s: 4.0 if now_s < 300 else 40.0, 320)
    grown = sorted(set(fleet.counts))
    assert grown[-1] >= 5
    assert len(grown) <= 5


def test_a_ramp_finds_the_replicas_up_when_they_are_needed() -> None:
    def ramp(now_s: float) -> float:
        return 4 + max(0.0, now_s - 300) * 0.05

    fleet = Fleet(policy(), 1)
    fleet.run(ramp, 1500)
    for seen in fleet.seen:
        assert seen.offered_prefill_tokens_per_s <= 1.05 * seen.up * PREFILL_TOKENS_PER_S


def test_those_that_start_are_not_asked_for_again() -> None:
    fleet = Fleet(policy(), 1, startup_s=60)
    fleet.run(lambda now_s: 7.0 if now_s < 300 else 17.0, 420)
    # Three for the load, and for the queue that grew until they came.
    assert 3 <= max(fleet.counts) <= 5


# Down


def test_one_at_a_time_and_each_drain_awaited() -> None:
    fleet = Fleet(policy(), 10, drain_s=30)
    fleet.run(lambda now_s: 60.0 if now_s < 100 else 5.0, 1000)
    before = 10
    for seen, decision in zip(fleet.seen, fleet.decisions, strict=True):
        assert decision.replicas >= before - 1
        if decision.replicas < seen.replicas:
            assert seen.draining == 0
        before = decision.replicas
    assert fleet.counts[-1] <= 2


@pytest.mark.parametrize("startup_s", [60.0, 240.0])
def test_not_before_the_time_that_it_takes_to_get_one_back(startup_s: float) -> None:
    fleet = Fleet(policy(), 5, startup_s=startup_s)
    fleet.run(lambda now_s: 30.0 if now_s < 600 else 0.0, 1500)
    needed_s = fleet.period_s * next(i for i, one in enumerate(fleet.counts) if one < 4)
    assert 600 + 0.9 * startup_s <= needed_s <= 600 + 2.5 * startup_s


def test_nothing_goes_before_the_load_is_known() -> None:
    fleet = Fleet(policy(), 5, startup_s=60)
    fleet.run(lambda now_s: 5.0, 118)
    assert set(fleet.counts) == {5}
    assert fleet.decisions[-1].bound == "history"
    fleet.run(lambda now_s: 5.0, 10)
    assert fleet.counts[-1] < 5


def test_never_below_what_runs() -> None:
    one = policy()
    settled(one, 4)
    burst = observed(4, running_kv_tokens=350_000, running_requests=3)
    decision = one.decide(burst, 181)
    assert (decision.replicas, decision.bound) == (4, "running_streams")


# Bounds


def test_bounds_hold_and_are_told() -> None:
    lots = settled(policy(1, 3), 1, offered_prefill_tokens_per_s=90_000)
    assert (lots.replicas, lots.bound) == (3, "max_replicas")
    little = settled(policy(2, 3), 2)
    assert (little.replicas, little.bound) == (2, "min_replicas")
    assert policy(2, 3).decide(observed(0), 0).bound == "min_replicas"
    assert policy(1, 3).decide(observed(9), 0).replicas == 3


# To zero and back


def test_the_last_goes_when_nothing_was_to_do_for_long() -> None:
    fleet = Fleet(policy(min_replicas=0), 2)
    fleet.run(lambda now_s: 3.0 if now_s < 300 else 0.0, 1200)
    gone_s = fleet.period_s * fleet.counts.index(0)
    assert 900 <= gone_s <= 960
    assert "idle_time" in {decision.bound for decision in fleet.decisions}


def test_who_waits_brings_the_first_back_at_once() -> None:
    one = policy(min_replicas=0)
    assert settled(one, 0).replicas == 0
    waiting = observed(0, waiting_requests=1, waiting_kv_tokens=10, waiting_prefill_tokens=8)
    assert one.decide(waiting, 181).replicas == 1


def test_as_many_come_as_the_line_needs() -> None:
    line = {
        "waiting_requests": 1000.0,
        "waiting_kv_tokens": 1e6,
        "waiting_prefill_tokens": 1.5e6,
    }
    assert policy(min_replicas=0).decide(observed(0, **line), 0).replicas == 3


def test_a_refused_request_is_a_request() -> None:
    refused = observed(0, offered_prefill_tokens_per_s=1)
    assert policy(min_replicas=0).decide(refused, 0).replicas == 1


# Whatever the load

loads = st.lists(st.floats(0, 400), min_size=1, max_size=6)
"""Requests per second, each for a time."""


def steps(levels: list[float], each_s: float = 100) -> Load:
    return lambda now_s: levels[min(int(now_s / each_s), len(levels) - 1)]


@settings(max_examples=40, deadline=None)
@given(loads, st.integers(0, 3), st.integers(0, 20), st.integers(0, 2**16))
def test_bounds_hold_for_any_load(levels: list[float], least: int, more: int, seed: int) -> None:
    most = max(1, least + more)
    fleet = Fleet(policy(least, most), least, rng=random.Random(seed))
    fleet.run(steps(levels), 100.0 * len(levels))
    for seen, decision in zip(fleet.seen, fleet.decisions, strict=True):
        assert least <= decision.replicas <= most
        assert decision.replicas >= seen.replicas - 1
        assert decision.replicas >= min(seen.replicas, seen.least_for_running, most)
        assert math.isfinite(decision.value)
        assert decision.target > 0


@settings(max_examples=40, deadline=None)
@given(loads, st.integers(1, 10), st.floats(1, 10))
def test_more_load_never_asks_for_fewer(levels: list[float], replicas: int, times: float) -> None:
    one, more = policy(), policy()
    for second in range(0, 100 * len(levels), 2):
        rate = steps(levels)(second) * PROMPT_TOKENS
        values = {"running_kv_tokens": 10 * rate, "running_requests": rate / 100}
        seen = observed(replicas, offered_prefill_tokens_per_s=rate, **values)
        scaled = {name: times * value for name, value in values.items()}
        seen_more = observed(replicas, offered_prefill_tokens_per_s=times * rate, **scaled)
        less, most = one.decide(seen, second), more.decide(seen_more, second)
        assert most.replicas >= less.replicas or less.bound == "one_drain"


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 20), st.integers(0, 2**16))
def test_chance_alone_makes_a_fleet_go_up_and_down_but_a_few_times(
    replicas: float, seed: int
) -> None:
    """Counts the turns within an hour, 60 times the startup time of a replica."""
    load = replicas * A_REPLICA
    by_prefill = ScalingPolicy(ScalingConfig(max_replicas=50, prefill_utilization=0.6))
    fleet = Fleet(by_prefill, math.ceil(replicas * 1.8), rng=random.Random(seed))
    fleet.run(lambda now_s: load, 3600)
    assert fleet.turns <= 6


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 20), st.integers(0, 2**16))
def test_a_restart_does_not_jump(replicas: float, seed: int) -> None:
    """A restarted policy decides like one that continues, or makes fewer changes."""
    load = replicas * A_REPLICA
    fleet = Fleet(policy(), math.ceil(replicas * 1.6), rng=random.Random(seed))
    fleet.run(lambda now_s: load, 600)
    before = fleet.counts[-1]
    fleet.scaler = policy()
    fleet.run(lambda now_s: load, 120)
    after = fleet.counts[-60:]
    assert after[0] == before
    assert set(after[:25]) <= {before, before + 1}
    assert all(abs(count - before) <= 2 for count in after)

"""The number of routers, by their loads."""

import pytest

from serving.scaling import RouterLoad, RouterScalingConfig, RouterScalingPolicy
from serving.scaling.router_policy import RouterDecision

IDLE_S = 60


def policy(least: int = 1, most: int = 6) -> RouterScalingPolicy:
    return RouterScalingPolicy(
        RouterScalingConfig(min_replicas=least, max_replicas=most, idle_s=IDLE_S)
    )


def shares(*event_loops: float) -> list[RouterLoad]:
    return [RouterLoad(event_loop=share) for share in event_loops]


@pytest.mark.parametrize(
    ("loads", "needed"),
    [
        (shares(0.0), 1),
        (shares(0.6), 1),
        (shares(0.61), 2),
        (shares(0.9, 0.9), 3),
        (shares(1.0, 1.0, 1.0), 5),
        (shares(0.5, 0.5, 0.1), 2),
        ([RouterLoad(0.2, 0.7, 0.1), RouterLoad(0.2, 0.7, 0.1)], 3),
        ([RouterLoad(0.1, 0.1, 0.7)], 2),
        (shares(*[1.0] * 6), 6),
    ],
)
def test_as_many_as_are_not_short_under_an_even_load(loads: list[RouterLoad], needed: int) -> None:
    assert policy().decide(loads, 1, 0).replicas == needed


def test_the_resource_that_asks_for_most_decides() -> None:
    decision = policy().decide([RouterLoad(0.2, 0.7, 0.1), RouterLoad(0.3, 0.8, 0.2)], 2, 0)
    assert decision == RouterDecision(3, "chunks", 1.5)


def test_up_at_once_and_down_when_fewer_have_been_enough_for_a_while() -> None:
    scaler = policy()
    for now_s in range(0, 2 * IDLE_S, 2):
        assert scaler.decide(shares(0.1), 1, now_s).replicas == 1
    begin_s = 2 * IDLE_S
    assert scaler.decide(shares(1.0), 1, begin_s).replicas == 2
    assert scaler.decide(shares(1.0, 0.7), 2, begin_s + 2).replicas == 3
    for now_s in range(begin_s + 4, begin_s + 2 + IDLE_S, 2):
        assert scaler.decide(shares(0.1, 0.1, 0.1), 3, now_s).replicas == 3
    assert scaler.decide(shares(0.1, 0.1, 0.1), 3, begin_s + 4 + IDLE_S).replicas == 1


def test_a_peak_within_that_time_keeps_the_routers() -> None:
    scaler = policy()
    for now_s in range(0, 10 * IDLE_S, 2):
        loads = shares(0.9, 0.1) if now_s % (IDLE_S - 2) == 0 else shares(0.1, 0.1)
        assert scaler.decide(loads, 2, now_s).replicas == 2


def test_a_new_controller_stops_no_router_before_it_has_seen_enough() -> None:
    scaler = policy()
    for now_s in range(0, IDLE_S, 2):
        assert scaler.decide(shares(0.1, 0.1, 0.1), 3, now_s).replicas == 3
    assert scaler.decide(shares(0.1, 0.1, 0.1), 3, IDLE_S).replicas == 1


def test_without_reports_nothing_changes() -> None:
    assert policy().decide([], 4, 1000) == RouterDecision(4)


def test_never_below_min_replicas() -> None:
    scaler = policy(least=2)
    assert scaler.decide(shares(0.0), 1, 0).replicas == 2
    assert scaler.decide(shares(0.0, 0.0), 2, 2 * IDLE_S).replicas == 2

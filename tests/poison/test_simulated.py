"""Fleets of engines and routers in simulated time, with several requests that end engines."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.poison import Reason
from tests.poison.fleet import Fleet

REASONS: list[Reason] = ["crash", "hang", "out_of_memory", "killed", "unreachable"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    engines=st.integers(1, 4),
    routers=st.integers(1, 3),
    poisons=st.integers(1, 4),
    copies=st.integers(1, 5),
    innocents=st.integers(0, 20),
    reasons=st.lists(st.sampled_from(REASONS), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
)
def test_no_innocent_is_blamed_or_lost_and_no_poison_ends_more_than_two_engines(
    engines: int,
    routers: int,
    poisons: int,
    copies: int,
    innocents: int,
    reasons: list[Reason],
    seed: int,
) -> None:
    fleet = Fleet(engines, routers, seed)
    bad = [
        fleet.send(b"poison-%d" % n, again % routers, 0.2, reasons[n])
        for n in range(poisons)
        for again in range(copies)
    ]
    good = []
    for n in range(innocents):
        good.append(fleet.send(b"innocent-%d" % n, n % routers, fleet.random.uniform(0.05, 0.6)))
        fleet.step()
    fleet.run(until_s=400)
    assert Counter(one.outcome for one in good) == Counter(answered=innocents)
    assert {one.outcome for one in bad} == {"refused"}
    # At first a request may be on all engines at once, before anyone knows it.
    assert len(fleet.deaths) <= max(2 * poisons, engines + poisons)

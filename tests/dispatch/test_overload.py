"""A fleet at three times its capacity for two minutes, in simulated time."""

import random
import statistics
from collections.abc import Sequence

import pytest

from tests.dispatch.fleet import Job, Simulation

REPLICAS = 4
OVERLOAD_S = 120
WARM_S = 30
"""Time until a fleet that starts empty is full and the first requests have left."""
PEAK_PER_S = 17.0
"""The rate at which this fleet completes requests when full; test_goodput checks it."""
NEVER = 1e9


def jobs(per_s: float, seed: int = 1, *, spread: float = 0.8) -> list[Job]:
    """Returns random arrivals with log-normal prompts around 1,000 tokens and answers around
    200."""
    rng = random.Random(seed)
    at_s, made = 0.0, []
    while (at_s := at_s + rng.expovariate(per_s)) < OVERLOAD_S:
        prompt_tokens = int(min(30_000, rng.lognormvariate(7, spread)))
        output_tokens = int(min(2_000, max(1, rng.lognormvariate(5.3, 0.7))))
        made.append(Job(prompt_tokens, output_tokens, at_s))
    return made


def run(arrivals: Sequence[Job], until_s: float = NEVER, replicas: int = REPLICAS) -> Simulation:
    simulation = Simulation(replicas)
    for job in arrivals:
        simulation.arrive(job)
    simulation.run(until_s)
    return simulation


def goodput(simulation: Simulation) -> float:
    """Returns the requests completed per second of the overload."""
    done = [job for job in simulation.done if WARM_S <= (job.done_at_s or 0) < OVERLOAD_S]
    return len(done) / (OVERLOAD_S - WARM_S)


def served_after(job: Job) -> float:
    """Returns the time from the first rejection to the placement, relative to the Retry-After."""
    rejected_at_s, rejection = job.rejections[0]
    assert job.placed_at_s is not None and rejection.retry_after_s is not None
    return (job.placed_at_s - rejected_at_s) / rejection.retry_after_s


def test_goodput_at_three_times_the_capacity_is_that_of_the_peak() -> None:
    by_load = {load: goodput(run(jobs(load * PEAK_PER_S), OVERLOAD_S)) for load in (0.5, 0.9, 1, 3)}
    peak = max(by_load.values())
    assert peak == pytest.approx(PEAK_PER_S, rel=0.1)
    assert by_load[0.5] == pytest.approx(0.5 * PEAK_PER_S, rel=0.05)
    assert by_load[3] >= 0.95 * peak


@pytest.mark.parametrize("load", [1.3, 3])
def test_each_retry_after_is_honest_within_a_factor_of_two(load: float) -> None:
    arrivals = jobs(load * PEAK_PER_S)
    simulation = run(arrivals)
    rejected = [job for job in arrivals if job.rejections]
    assert len(rejected) > (1 - 1 / load) / 2 * len(arrivals)
    assert max(served_after(job) for job in rejected) <= 2
    assert all(job.done_at_s for job in arrivals), "all of them were served in the end"
    for job in arrivals:
        last_try_s = job.arrived_at_s
        if job.rejections:
            at_s, rejection = job.rejections[-1]
            last_try_s = at_s + (rejection.retry_after_s or 0)
        assert job.placed_at_s is not None and job.placed_at_s - last_try_s <= 30
    assert len(simulation.dispatcher._queue) == len(simulation.dispatcher._admission.retries) == 0
    assert simulation.dispatcher._service_rate.booked == pytest.approx(0, abs=1e-6)


def test_nobody_is_sent_away_for_longer_than_the_work_before_it_takes() -> None:
    """Requests of one size, compared with an unbounded queue in which each waits for exactly that
    work."""
    arrivals, unbounded = ([Job(1000, 300, n / 40) for n in range(40 * 120)] for _ in range(2))
    run(arrivals)
    simulation = Simulation(REPLICAS, max_waiting=10**9, max_wait_s=NEVER)
    for job in unbounded:
        simulation.arrive(job)
    simulation.run()
    told_to_needed = [
        (job.rejections[0][1].retry_after_s or 0) / (other.placed_at_s - job.rejections[0][0])
        for job, other in zip(arrivals, unbounded, strict=True)
        if job.rejections and other.placed_at_s
    ]
    assert len(told_to_needed) > 1000
    assert min(told_to_needed) >= 0.5 and max(told_to_needed) <= 2


def test_clients_that_never_come_back_cost_no_goodput() -> None:
    arrivals = jobs(3 * PEAK_PER_S)
    for job in arrivals:
        job.returns = False
    assert goodput(run(arrivals, OVERLOAD_S)) >= 0.95 * PEAK_PER_S


def test_retry_times_hold_though_half_of_the_clients_never_come_back() -> None:
    arrivals = jobs(3 * PEAK_PER_S)
    for job in arrivals[::2]:
        job.returns = False
    run(arrivals)
    assert max(served_after(job) for job in arrivals[1::2] if job.rejections) <= 2


def test_large_requests_are_served_though_small_ones_never_cease() -> None:
    arrivals = jobs(1.5 * PEAK_PER_S)
    large = [Job(60_000, 500, 5.0 * n) for n in range(20)]
    run([*arrivals, *large])
    for job in large:
        assert job.placed_at_s is not None
        if job.rejections:
            assert served_after(job) <= 2
        else:
            assert job.placed_at_s - job.arrived_at_s <= 30


def test_high_priorities_do_not_notice_an_overload_of_low_ones() -> None:
    low = jobs(3 * PEAK_PER_S)
    high = jobs(0.3 * PEAK_PER_S, seed=2)
    for job in low:
        job.priority = 1
    for job in high:
        job.priority = 9
    run([*low, *high])
    assert not any(job.rejections for job in high)
    # Before, the first requests are still on the replicas.
    late = [job for job in high if job.arrived_at_s > WARM_S]
    waits_s = sorted((job.placed_at_s or 0) - job.arrived_at_s for job in late)
    assert waits_s[len(waits_s) * 99 // 100] < 2


def test_replicas_that_come_up_in_an_overload_are_used_at_once() -> None:
    arrivals = jobs(2 * PEAK_PER_S)
    simulation = Simulation(REPLICAS)
    for job in arrivals:
        simulation.arrive(job)
    simulation.run(60)
    before = len(simulation.done)
    simulation.add_replicas(REPLICAS)
    simulation.run(OVERLOAD_S)
    at_end = len(simulation.done) - before
    assert at_end / 60 >= 1.5 * PEAK_PER_S
    simulation.run()
    late = [job for job in arrivals if job.rejections and job.rejections[0][0] > 75]
    assert all(served_after(job) <= 2 for job in late)


def test_four_routers_share_the_fleet_and_redeem_each_others_retry_reservations() -> None:
    """Clients retry at any of the routers."""
    arrivals = jobs(3 * PEAK_PER_S)
    rng = random.Random(7)
    simulation = Simulation(REPLICAS, routers=4)
    for job in arrivals:
        job.pick_router = lambda: rng.randrange(4)
        simulation.arrive(job)
    simulation.share(until_s=600)
    simulation.run(OVERLOAD_S)
    assert goodput(simulation) >= 0.95 * goodput(run(jobs(3 * PEAK_PER_S), OVERLOAD_S))
    simulation.run()
    ratios = sorted(served_after(job) for job in arrivals if job.rejections)
    assert ratios[len(ratios) * 99 // 100] <= 2


def test_routers_are_served_in_proportion_to_who_comes_to_them() -> None:
    arrivals = jobs(3 * PEAK_PER_S)
    simulation = Simulation(REPLICAS, routers=2)
    for at, job in enumerate(arrivals):
        job.router = int(at % 4 == 0)
        simulation.arrive(job)
    simulation.share(until_s=OVERLOAD_S)
    simulation.run(OVERLOAD_S)
    done = [job for job in simulation.done if (job.done_at_s or 0) > WARM_S]
    quarter = sum(job.router for job in done) / len(done)
    assert 0.2 <= quarter <= 0.3


def test_a_router_that_was_idle_while_another_filled_the_fleet_promises_what_that_one_does() -> (
    None
):
    """The idle one stands for a new router, to which clients come when the others are full."""
    arrivals = jobs(1.5 * PEAK_PER_S)
    simulation = Simulation(REPLICAS, routers=2)
    for at, job in enumerate(arrivals):
        job.router = at % 2 if job.arrived_at_s > 60 else 0
        simulation.arrive(job)
    simulation.share(until_s=OVERLOAD_S)
    simulation.run(OVERLOAD_S)
    told_s: tuple[list[int], list[int]] = ([], [])
    for job in arrivals:
        if 60 < job.arrived_at_s < 66 and job.rejections:
            told_s[job.router].append(job.rejections[0][1].retry_after_s or 0)
    full, idle = (statistics.median(told) for told in told_s)
    assert full / 2 <= idle <= 2 * full

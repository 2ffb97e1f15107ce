"""Tenants that share a fleet at several times its capacity, in simulated time."""

import random
from collections.abc import Callable, Iterable

import pytest

from tests.dispatch.fleet import Job, Simulation
from tests.dispatch.test_overload import served_after

WARM_S = 20
UNTIL_S = WARM_S + 60
MOST_PER_S = 13.0
"""The rate at which a replica completes such requests when full."""


def flood(
    tenant: str, weight: float, per_s: float, *, from_s: float = 0.0, until_s: float = UNTIL_S
) -> list[Job]:
    """Returns random arrivals with log-normal prompts around 665 tokens and answers around 90."""
    rng = random.Random(tenant)
    at_s, jobs = from_s, []
    while (at_s := at_s + rng.expovariate(per_s)) < until_s:
        prompt_tokens, output_tokens = (int(rng.lognormvariate(mean, 0.5)) for mean in (6.5, 4.5))
        job = Job(prompt_tokens, output_tokens, at_s, tenant=tenant, weight=weight, returns=False)
        jobs.append(job)
    return jobs


def run(
    *jobs: Job,
    routers: int = 1,
    router_of: Callable[[Job], int] | None = None,
    max_waiting: int = 1000,
) -> Simulation:
    simulation = Simulation(1, routers=routers, max_waiting=max_waiting)
    rng = random.Random(3)
    for job in jobs:
        job.router = rng.randrange(routers) if router_of is None else router_of(job)
        simulation.arrive(job)
    if routers > 1:
        simulation.share(until_s=UNTIL_S)
    simulation.run(UNTIL_S)
    return simulation


def served_s(
    jobs: Iterable[Job], tenant: str, since_s: float = WARM_S, until_s: float = UNTIL_S
) -> float:
    """Returns the engine time of a tenant's requests that were placed in this time."""
    return sum(
        job.engine_s
        for job in jobs
        if job.tenant == tenant and job.placed_at_s and since_s <= job.placed_at_s < until_s
    )


@pytest.mark.parametrize("routers", [1, 4])
def test_work_is_served_by_weight(routers: int) -> None:
    jobs = [*flood("three", 3, 2 * MOST_PER_S), *flood("one", 1, MOST_PER_S)]
    run(*jobs, routers=routers)
    assert served_s(jobs, "three") / served_s(jobs, "one") == pytest.approx(3, rel=0.05)


def test_work_is_served_by_weight_though_each_tenant_has_a_router_of_its_own() -> None:
    jobs = [*flood("three", 3, 2 * MOST_PER_S), *flood("one", 1, 2 * MOST_PER_S)]
    run(*jobs, routers=2, router_of=lambda job: int(job.tenant == "one"))
    assert served_s(jobs, "three") / served_s(jobs, "one") == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("routers", [1, pytest.param(4, marks=pytest.mark.full)])
def test_a_tenant_that_wakes_up_has_its_share_within_five_seconds(routers: int) -> None:
    jobs = [*flood("three", 3, 2 * MOST_PER_S), *flood("one", 1, MOST_PER_S)]
    jobs += flood("late", 2, MOST_PER_S, from_s=50)
    run(*jobs, routers=routers)
    served = [served_s(jobs, name, 50, 55) for name in ("three", "one", "late")]
    assert served[2] / sum(served) == pytest.approx(2 / 6, rel=0.15)


def test_what_an_idle_tenant_leaves_is_the_others() -> None:
    jobs = [*flood("three", 3, MOST_PER_S / 8), *flood("one", 1, 2 * MOST_PER_S)]
    run(*jobs)
    few = [job for job in jobs if job.tenant == "three"]
    assert all(job.placed_at_s is not None for job in few if job.arrived_at_s < UNTIL_S - 5)
    alone = flood("one", 1, 2 * MOST_PER_S)
    run(*alone)
    total = served_s(jobs, "three") + served_s(jobs, "one")
    assert total == pytest.approx(served_s(alone, "one"), rel=0.05)


@pytest.mark.parametrize(
    ("routers", "max_waiting"), [(1, 50), pytest.param(4, 1000, marks=pytest.mark.full)]
)
def test_who_floods_is_refused_and_nobody_else(routers: int, max_waiting: int) -> None:
    """The others ask for half of their shares."""
    others = [job for name in ("a", "b", "c") for job in flood(name, 1, MOST_PER_S / 8)]
    flooding = flood("flooding", 1, 4 * MOST_PER_S)
    run(*others, *flooding, routers=routers, max_waiting=max_waiting)
    assert sum(bool(job.rejections) for job in flooding) > len(flooding) / 2
    assert not any(job.rejections for job in others)
    waits_s = sorted(
        (job.placed_at_s or UNTIL_S) - job.arrived_at_s
        for job in others
        if 2 * WARM_S < job.arrived_at_s < UNTIL_S - 5
    )
    assert waits_s[len(waits_s) * 99 // 100] < 5


def test_each_tenants_retry_after_is_honest() -> None:
    """Two tenants want more than there is, and return when they are told to."""
    jobs = [*flood("a", 1, MOST_PER_S, until_s=40), *flood("b", 1, MOST_PER_S, until_s=40)]
    simulation = Simulation(1)
    for job in jobs:
        job.returns = True
        simulation.arrive(job)
    simulation.run()
    for tenant in "ab":
        rejected = [job for job in jobs if job.tenant == tenant and job.rejections]
        assert len(rejected) > 100
        assert max(served_after(job) for job in rejected) <= 2

"""Admission under overload, in simulated time, and its cost: `python -m tests.bench.admission`.

For two minutes four simulated replicas get up to three times the load that they can serve, from
clients that return after their Retry-After; then by tenants with weights. Reports, asserts nothing.
"""

import itertools
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
from rich.console import Console

from serving.dispatch import (
    Dispatcher,
    Limits,
    Outcome,
    Permit,
    RateLimiter,
    Rejection,
    Request,
    Reservation,
    Spent,
    State,
    TenantLimits,
)
from serving.placement import Capacity, Prefix, Work
from tests.bench.batches import batches_table
from tests.bench.relay_report import new_table
from tests.dispatch.fleet import LeastBooked
from tests.dispatch.test_overload import (
    OVERLOAD_S,
    PEAK_PER_S,
    goodput,
    jobs,
    run,
    served_after,
)
from tests.dispatch.test_tenants import MOST_PER_S, flood, served_s
from tests.dispatch.test_tenants import run as run_tenants

CAPACITY = Capacity(kv_cache_tokens=300_000, max_num_seqs=256)
REPLICAS = (1, 8, 64)
WAITING = (10, 1_000, 100_000)
TENANTS = (0, 20)
LOADS = (0.5, 0.9, 1.0, 1.3, 2.0, 3.0)
OPERATIONS = 2_000


class Bench:
    """A full fleet and a queue of `waiting` requests, of as many `tenants`, in simulated time."""

    def __init__(self, replicas: int, waiting: int, tenants: int = 0) -> None:
        self.rng = random.Random(1)
        self.tenants = [f"tenant-{n}" for n in range(tenants)] or [""]
        self.now_s = 0.0
        limits = Limits(1 << 40, max_wait_s=1e9, startup_s=60)
        self.dispatcher = Dispatcher(
            LeastBooked(), CAPACITY, limits, now_s=0, waits_for_choice=False
        )
        self.dispatcher.update({f"replica-{i}": CAPACITY for i in range(replicas)}, 0)
        self.keys = itertools.count(1)
        self.running: list[Reservation] = []
        while self.dispatcher.waiting < waiting:
            self.submit()
            self.poll()

    def request(self) -> Request:
        tokens = int(min(100_000, self.rng.lognormvariate(7.5, 1)))
        work = Work(Prefix([], [], tokens), tokens, 0)
        return Request(
            work,
            self.rng.randrange(3, 7),
            timeout_s=1e9,
            key=next(self.keys),
            tenant=self.rng.choice(self.tenants),
        )

    def submit(self) -> Reservation | Rejection:
        return self.dispatcher.submit(self.request(), self.now_s)

    def poll(self) -> None:
        changed = self.dispatcher.poll(self.now_s)
        self.running += (one for one in changed if one.state is State.PLACED)

    def turn_over(self) -> None:
        """Ends one request, places the next, and adds another to the end of the queue."""
        at = self.rng.randrange(len(self.running))
        self.running[at], self.running[-1] = self.running[-1], self.running[at]
        self.dispatcher.release(self.running.pop(), Outcome.SERVED, self.now_s)
        self.poll()

    def come_and_leave(self) -> None:
        reservation = self.submit()
        assert isinstance(reservation, Reservation)
        self.dispatcher.withdraw(reservation, self.now_s)

    def reject(self) -> None:
        admission = self.dispatcher._admission
        limits, admission.limits = admission.limits, replace(admission.limits, max_waiting=0)
        lowest = msgspec.structs.replace(self.request(), priority=0)
        assert isinstance(self.dispatcher.submit(lowest, self.now_s), Rejection)
        admission.limits = limits


def microseconds(bench: Bench, operation: Callable[[], object]) -> float:
    """The median of ten runs, per operation."""

    def once() -> float:
        began_s = time.perf_counter()
        for _ in range(OPERATIONS // 10):
            bench.now_s += 0.001
            operation()
        return (time.perf_counter() - began_s) / (OPERATIONS // 10) * 1e6

    return statistics.median(once() for _ in range(10))


def overload_table(console: Console) -> None:
    table = new_table(
        f"Overload for {OVERLOAD_S} s: capacity is {PEAK_PER_S:g} requests/s",
        "offered",
        *("done/s", "of the peak", "sent", "rejected", "Retry-After s, p50", "p99"),
        *("served after / Retry-After, p50", "p99", "most", "never served"),
    )
    done = {load: goodput(run(jobs(load * PEAK_PER_S), OVERLOAD_S)) for load in LOADS}
    for load in LOADS:
        arrivals = jobs(load * PEAK_PER_S)
        run(arrivals)
        rejected = [job for job in arrivals if job.rejections]
        advised_s = sorted(job.rejections[0][1].retry_after_s or 0 for job in rejected)
        ratios = sorted(served_after(job) for job in rejected)
        figures = ["-"] * 5
        if rejected:
            last = len(rejected) * 99 // 100
            half = len(rejected) // 2
            figures = [
                *(str(advised_s[at]) for at in (half, last)),
                *(f"{ratios[at]:.2f}" for at in (half, last, -1)),
            ]
        table.add_row(
            f"{load:g} x",
            f"{done[load]:.1f}",
            f"{done[load] / max(done.values()):.1%}",
            f"{len(arrivals):,}",
            f"{len(rejected):,}",
            *figures,
            str(sum(job.done_at_s is None for job in arrivals)),
        )
    console.print(table)


def cost_table(console: Console) -> None:
    table = new_table(
        "µs per operation (an end is with the placing of those who take its place)",
        *("replicas", "waiting", "tenants", "submit", "end", "leave", "reject"),
    )
    for replicas in REPLICAS:
        for waiting in WAITING:
            for tenants in TENANTS:
                bench = Bench(replicas, waiting, tenants)
                operations = (bench.submit, bench.turn_over, bench.come_and_leave, bench.reject)
                figures = (f"{microseconds(bench, each):.1f}" for each in operations)
                table.add_row(str(replicas), f"{waiting:,}", str(tenants), *figures)
    console.print(table)


def uncontended_us(tenant: str, limits: TenantLimits | None) -> float:
    """Returns the time that a request takes which is placed at once, from its arrival to its end,
    in microseconds: the median of ten runs."""
    dispatcher = Dispatcher(LeastBooked(), CAPACITY, Limits(1000, 30, 60), now_s=0)
    dispatcher.update({f"replica-{i}": CAPACITY for i in range(8)}, 0)
    limiter = RateLimiter()
    work = Work(Prefix([], [], 1000), 1000, 200)
    times_us = []
    for turn in range(10):
        began_s = time.perf_counter()
        for n in range(OPERATIONS):
            now_s = turn * 100 + n / 100
            permit = limiter.admit(tenant, limits, 1200, now_s) if limits is not None else None
            reservation = dispatcher.submit(Request(work, key=n, tenant=tenant), now_s)
            assert isinstance(reservation, Reservation)
            dispatcher.poll(now_s)
            dispatcher.release(reservation, Outcome.SERVED, now_s + 0.005, 200, Spent(900, 150))
            if permit is not None:
                assert isinstance(permit, Permit)
                limiter.end(permit, 1050, now_s + 0.005)
        times_us.append((time.perf_counter() - began_s) / OPERATIONS * 1e6)
    return statistics.median(times_us)


def tenants_table(console: Console) -> None:
    table = new_table("µs per request that is placed at once, from arrival to end", "tenant", "µs")
    limits = TenantLimits(requests_per_minute=10**9, tokens_per_minute=10**9, tokens_per_day=10**12)
    for name, tenant, of in (
        ("none configured", "", None),
        ("with a weight", "a", None),
        ("with three limits as well", "a", limits),
    ):
        table.add_row(name, f"{uncontended_us(tenant, of):.1f}")
    console.print(table)


def shares_table(console: Console) -> None:
    table = new_table(
        "Tenants of weights 3 and 1 that flood one replica, and one of weight 2 from 50 s on",
        *("routers", "engine time 20 to 50 s", "of the late one in its first 5 s"),
    )
    for routers in (1, 4):
        jobs = [*flood("three", 3, 2 * MOST_PER_S), *flood("one", 1, MOST_PER_S)]
        jobs += flood("late", 2, MOST_PER_S, from_s=50)
        run_tenants(*jobs, routers=routers)
        ratio = served_s(jobs, "three", 20, 50) / served_s(jobs, "one", 20, 50)
        served = [served_s(jobs, name, 50, 55) for name in ("three", "one", "late")]
        table.add_row(str(routers), f"{ratio:.2f} : 1", f"{served[2] / sum(served):.1%} of 33.3%")
    console.print(table)


def main() -> None:
    console = Console(width=max(Console().width, 130))
    overload_table(console)
    shares_table(console)
    tenants_table(console)
    cost_table(console)
    batches_table(console)


if __name__ == "__main__":
    main()

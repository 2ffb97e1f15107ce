"""Admission under overload, in simulated time, and its costs: `python -m tests.bench.admission`.

Four simulated replicas are asked two minutes long for up to three times what they can do, by
clients that come back when they were told to. Reports, asserts nothing.
"""

import itertools
import random
import statistics
import time
from collections.abc import Callable

from rich.console import Console

from serving.admission import Admission, Capacity, Demand, Refusal, Ticket
from tests.admission.fleet import Load
from tests.admission.test_overload import OVERLOAD_S, PEAK_PER_S, goodput, jobs, run, served_after
from tests.bench.relay_report import new_table

CAPACITY = Capacity(kv_cache_tokens=300_000, max_num_seqs=256)
REPLICAS = (1, 8, 64)
WAITING = (10, 1_000, 100_000)
LOADS = (0.5, 0.9, 1.0, 1.3, 2.0, 3.0)
OPERATIONS = 2_000


class Replica:
    def __init__(self) -> None:
        self.capacity = CAPACITY
        self.load = Load()


class Bench:
    """A full fleet and a line of `waiting`, in simulated time."""

    def __init__(self, replicas: int, waiting: int) -> None:
        self.rng = random.Random(1)
        self.now_s = 0.0
        self.admission: Admission[Replica] = Admission(
            CAPACITY, max_waiting=1 << 40, max_wait_s=1e9, startup_s=60, now_s=0
        )
        self.admission.update([Replica() for _ in range(replicas)], None, 0)
        self.keys = itertools.count(1)
        self.running: list[tuple[Ticket, Replica]] = []
        while len(self.admission.line) < waiting:
            self.offer()
            self.place()

    def demand(self) -> Demand:
        tokens = int(min(100_000, self.rng.lognormvariate(7.5, 1)))
        return Demand(tokens, self.rng.randrange(3, 7), timeout_s=1e9, key=next(self.keys))

    def offer(self) -> Ticket | Refusal:
        return self.admission.offer(self.demand(), self.now_s)

    def place(self) -> None:
        while (handed := self.admission.next(self.now_s)) is not None:
            ticket, fitting = handed
            fitting[0].load.requests += 1
            fitting[0].load.kv_tokens += ticket.demand.kv_tokens
            self.running.append((ticket, fitting[0]))

    def turn_over(self) -> None:
        """One ends, the next is placed; one more comes to stand at the end of the line."""
        at = self.rng.randrange(len(self.running))
        self.running[at], self.running[-1] = self.running[-1], self.running[at]
        ticket, replica = self.running.pop()
        replica.load.requests -= 1
        replica.load.kv_tokens -= ticket.demand.kv_tokens
        self.admission.end(ticket, True, self.now_s)
        self.place()

    def come_and_leave(self) -> None:
        ticket = self.offer()
        assert isinstance(ticket, Ticket)
        self.admission.withdraw(ticket)

    def refuse(self) -> None:
        self.admission._max_waiting = 0
        self.offer()
        self.admission._max_waiting = 1 << 40


def microseconds(bench: Bench, operation: Callable[[], object]) -> float:
    """The median of ten, per operation."""

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
        *("done/s", "of the peak", "sent", "refused", "told s, p50", "p99"),
        *("served after / told, p50", "p99", "most", "never served"),
    )
    done = {load: goodput(run(jobs(load * PEAK_PER_S), OVERLOAD_S)) for load in LOADS}
    for load in LOADS:
        arrivals = jobs(load * PEAK_PER_S)
        run(arrivals)
        refused = [job for job in arrivals if job.refusals]
        told_s = sorted(job.refusals[0][1].retry_after_s or 0 for job in refused)
        ratios = sorted(served_after(job) for job in refused)
        figures = ["-"] * 5
        if refused:
            last = len(refused) * 99 // 100
            half = len(refused) // 2
            figures = [
                *(str(told_s[at]) for at in (half, last)),
                *(f"{ratios[at]:.2f}" for at in (half, last, -1)),
            ]
        table.add_row(
            f"{load:g} x",
            f"{done[load]:.1f}",
            f"{done[load] / max(done.values()):.1%}",
            f"{len(arrivals):,}",
            f"{len(refused):,}",
            *figures,
            str(sum(job.done_at_s is None for job in arrivals)),
        )
    console.print(table)


def cost_table(console: Console) -> None:
    table = new_table(
        "µs per operation (an end is with the placing of those who come in its room)",
        *("replicas", "waiting", "offer", "end", "leave", "refuse"),
    )
    for replicas in REPLICAS:
        for waiting in WAITING:
            bench = Bench(replicas, waiting)
            operations = (bench.offer, bench.turn_over, bench.come_and_leave, bench.refuse)
            figures = (f"{microseconds(bench, each):.1f}" for each in operations)
            table.add_row(str(replicas), f"{waiting:,}", *figures)
    console.print(table)


def main() -> None:
    console = Console(width=max(Console().width, 130))
    overload_table(console)
    cost_table(console)


if __name__ == "__main__":
    main()

"""Costs of admission, in µs: `python -m tests.bench.admission`. Reports, asserts nothing."""

import itertools
import random
import statistics
import time
from collections.abc import Callable

from serving.admission import Admission, Capacity, Demand, Refusal, Ticket
from tests.admission.fleet import Load

CAPACITY = Capacity(kv_cache_tokens=300_000, max_num_seqs=256)
REPLICAS = (1, 8, 64)
WAITING = (10, 1_000, 100_000)
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


def main() -> None:
    print("µs per operation (an end is with the placing of those who come in its room)")
    print(f"{'replicas':>9}{'waiting':>9}{'offer':>8}{'end':>8}{'leave':>8}{'refuse':>8}")
    for replicas in REPLICAS:
        for waiting in WAITING:
            bench = Bench(replicas, waiting)
            operations = (bench.offer, bench.turn_over, bench.come_and_leave, bench.refuse)
            figures = "".join(f"{microseconds(bench, each):8.1f}" for each in operations)
            print(f"{replicas:9}{waiting:9,}{figures}")


if __name__ == "__main__":
    main()

"""A fleet in simulated time: replicas whose decode steps slow down with the number of sequences,
behind dispatchers, and clients that retry when told to."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from serving.dispatch import (
    DEMAND_PERIOD_S,
    Dispatcher,
    Limits,
    Message,
    Outcome,
    Rejection,
    Request,
    Reservation,
    State,
)
from serving.placement import Capacity, Prefix, ReplicaLoad, Work

CAPACITY = Capacity(kv_cache_tokens=145_000, max_num_seqs=64)
"""The capacity of a 24B model in bf16 on one GPU of 80 GB."""
STEP_S = 0.0187
STEP_PER_SEQUENCE_S = 0.00012
PREFILL_TOKENS_PER_S = 11_000


class LeastBooked:
    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        return min(range(len(loads)), key=lambda i: loads[i].kv_tokens)


@dataclass(eq=False)
class Job:
    """A client's request through all of its tries."""

    prompt_tokens: int
    output_tokens: int
    arrived_at_s: float
    priority: int = 5
    timeout_s: float | None = None
    returns: bool = True
    key: int = 0
    router: int = 0
    tenant: str = ""
    weight: float = 1.0
    pick_router: Callable[[], int] | None = None
    """Returns the router for each try."""
    rejections: list[tuple[float, Rejection]] = field(default_factory=list)
    placed_at_s: float | None = None
    done_at_s: float | None = None

    @property
    def request(self) -> Request:
        prefix = Prefix([], [], self.prompt_tokens)
        work = Work(prefix, self.prompt_tokens, self.output_tokens, streamed=False)
        return Request(work, self.priority, self.timeout_s, self.key, self.tenant, self.weight)

    @property
    def engine_s(self) -> float:
        """The time that it takes of a replica that is as full as can be."""
        step_s = (STEP_S + STEP_PER_SEQUENCE_S * CAPACITY.max_num_seqs) / CAPACITY.max_num_seqs
        return self.prompt_tokens / PREFILL_TOKENS_PER_S + self.output_tokens * step_s


class SimulatedReplica:
    """A replica in which all sequences advance by one token per step; a prefill halts the
    others."""

    def __init__(self) -> None:
        self.version = 0
        self._at_s = 0.0
        self._steps = 0.0
        self._prefill_s = 0.0
        self._ends: list[tuple[float, int, Job, Reservation]] = []
        self._seen = 0

    def start(self, job: Job, reservation: Reservation, now_s: float) -> None:
        self.advance(now_s)
        self._prefill_s += job.prompt_tokens / PREFILL_TOKENS_PER_S
        self._seen += 1
        heapq.heappush(self._ends, (self._steps + job.output_tokens, self._seen, job, reservation))

    def advance(self, now_s: float) -> None:
        elapsed_s = now_s - self._at_s
        self._at_s = now_s
        prefill_s = min(elapsed_s, self._prefill_s)
        self._prefill_s -= prefill_s
        if self._ends:
            self._steps += (elapsed_s - prefill_s) / self._step_s

    def next_end_s(self) -> float:
        return self._at_s + self._prefill_s + max(0, self._ends[0][0] - self._steps) * self._step_s

    def finish(self, now_s: float) -> tuple[Job, Reservation]:
        self.advance(now_s)
        _, _, job, reservation = heapq.heappop(self._ends)
        return job, reservation

    @property
    def busy(self) -> bool:
        return bool(self._ends)

    @property
    def _step_s(self) -> float:
        return STEP_S + STEP_PER_SEQUENCE_S * len(self._ends)


class Simulation:
    """Runs events in order of time; nothing else moves the clock."""

    def __init__(
        self,
        replicas: int,
        *,
        routers: int = 1,
        max_waiting: int = 10_000,
        max_wait_s: float = 30,
    ) -> None:
        self.now_s = 0.0
        self.replicas: dict[str, SimulatedReplica] = {}
        limits = Limits(max_waiting, max_wait_s, startup_s=60)
        self.dispatchers = [
            Dispatcher(LeastBooked(), CAPACITY, limits, now_s=0, waits_for_choice=False)
            for _ in range(routers)
        ]
        self.dispatcher = self.dispatchers[0]
        self.add_replicas(replicas)
        self.done: list[Job] = []
        self.running: set[Job] = set()
        self.abandoned: list[Job] = []
        self._jobs: dict[Reservation, Job] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._wake_s = 0.0

    def at(self, at_s: float, event: Callable[[], None]) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (at_s, self._scheduled, event))

    def arrive(self, job: Job) -> None:
        job.key = job.key or id(job)
        self.at(job.arrived_at_s, lambda: self._try(job))

    def run(self, until_s: float = 1e9) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            self._settle()

    def add_replicas(self, number: int) -> None:
        for _ in range(number):
            self.replicas[f"replica-{len(self.replicas)}"] = SimulatedReplica()
        for dispatcher in self.dispatchers:
            dispatcher.update(dict.fromkeys(self.replicas, CAPACITY), self.now_s)

    def share(self, until_s: float) -> None:
        """Lets the routers publish to each other without delay, their demands one after the
        other."""

        def publish(publisher: Dispatcher, message: Message) -> None:
            for other in self.dispatchers:
                if other is not publisher:
                    other.sync.receive(str(id(publisher)), [message], self.now_s)

        def publish_demands() -> None:
            for dispatcher in self.dispatchers:
                dispatcher.sync.publish_demand(self.now_s)
            if self.now_s < until_s:
                self.at(self.now_s + DEMAND_PERIOD_S, publish_demands)

        for dispatcher in self.dispatchers:
            dispatcher.sync.publish = partial(publish, dispatcher)
        self.at(0, publish_demands)

    def _try(self, job: Job) -> None:
        if job.pick_router is not None:
            job.router = job.pick_router()
        outcome = self.dispatchers[job.router].submit(job.request, self.now_s)
        if isinstance(outcome, Rejection):
            self._rejected(job, outcome)
        else:
            self._jobs[outcome] = job

    def _rejected(self, job: Job, rejection: Rejection) -> None:
        job.rejections.append((self.now_s, rejection))
        if rejection.retry_after_s is None or not job.returns:
            self.abandoned.append(job)
        else:
            self.at(self.now_s + rejection.retry_after_s, lambda: self._try(job))

    def _settle(self) -> None:
        for dispatcher in self.dispatchers:
            for reservation in dispatcher.poll(self.now_s):
                job = self._jobs.pop(reservation)
                if reservation.state is State.PLACED:
                    job.placed_at_s = self.now_s
                    self.running.add(job)
                    replica = self.replicas[reservation.replica_id]
                    replica.start(job, reservation, self.now_s)
                    self._watch(replica)
                else:
                    assert reservation.rejection is not None
                    self._rejected(job, reservation.rejection)
            due_s = dispatcher.next_due_s()
            if due_s < math.inf and not self.now_s < self._wake_s <= due_s:
                self._wake_s = due_s
                self.at(due_s, lambda: None)

    def _watch(self, replica: SimulatedReplica) -> None:
        replica.version += 1
        version = replica.version

        def end() -> None:
            if replica.version != version:
                return
            job, reservation = replica.finish(self.now_s)
            job.done_at_s = self.now_s
            self.running.remove(job)
            self.done.append(job)
            self.dispatchers[job.router].release(reservation, Outcome.SERVED, self.now_s)
            if replica.busy:
                self._watch(replica)

        if replica.busy:
            self.at(replica.next_end_s(), end)

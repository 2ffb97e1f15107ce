"""A fleet in simulated time: replicas whose decode steps take longer the more sequences they run,
behind an `Admission`, and clients that come back when they are told to."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.admission import Admission, Capacity, Demand, Refusal, Ticket
from serving.admission.allotment import OtherRouters
from serving.admission.capacity import used

CAPACITY = Capacity(kv_cache_tokens=145_000, max_num_seqs=64)
"""Of a 24B model in bf16 on one GPU of 80 GB."""
STEP_S = 0.0187
STEP_PER_SEQUENCE_S = 0.00012
PREFILL_TOKENS_PER_S = 11_000


@dataclass
class Load:
    kv_tokens: int = 0
    requests: int = 0
    context_tokens: int = 0

    def context_room_tokens(self, max_itl_ms: float, now_s: float) -> float:
        """At 10 ms a step and 1 ms more for each 100 tokens of context."""
        return 100 * (max_itl_ms - 10) - self.context_tokens


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
    pick_router: Callable[[], int] | None = None
    """For each try."""
    refusals: list[tuple[float, Refusal]] = field(default_factory=list)
    placed_at_s: float | None = None
    done_at_s: float | None = None

    @property
    def demand(self) -> Demand:
        return Demand(
            kv_tokens=self.prompt_tokens + self.output_tokens,
            priority=self.priority,
            timeout_s=self.timeout_s,
            key=self.key,
        )


class SimulatedReplica:
    """All sequences advance by one token a step; a prefill halts the others."""

    def __init__(self) -> None:
        self.capacity = CAPACITY
        self.load = Load()
        self.version = 0
        self._at_s = 0.0
        self._steps = 0.0
        self._prefill_s = 0.0
        self._ends: list[tuple[float, int, Job, Ticket]] = []
        self._seen = 0

    def start(self, job: Job, ticket: Ticket, now_s: float) -> None:
        self.advance(now_s)
        self.load.requests += 1
        self.load.kv_tokens += ticket.demand.kv_tokens
        self._prefill_s += job.prompt_tokens / PREFILL_TOKENS_PER_S
        self._seen += 1
        heapq.heappush(self._ends, (self._steps + job.output_tokens, self._seen, job, ticket))

    def advance(self, now_s: float) -> None:
        elapsed_s = now_s - self._at_s
        self._at_s = now_s
        prefill_s = min(elapsed_s, self._prefill_s)
        self._prefill_s -= prefill_s
        if self._ends:
            self._steps += (elapsed_s - prefill_s) / self._step_s

    def next_end_s(self) -> float:
        return self._at_s + self._prefill_s + max(0, self._ends[0][0] - self._steps) * self._step_s

    def finish(self, now_s: float) -> tuple[Job, Ticket]:
        self.advance(now_s)
        _, _, job, ticket = heapq.heappop(self._ends)
        self.load.requests -= 1
        self.load.kv_tokens -= ticket.demand.kv_tokens
        return job, ticket

    @property
    def busy(self) -> bool:
        return bool(self._ends)

    @property
    def _step_s(self) -> float:
        return STEP_S + STEP_PER_SEQUENCE_S * len(self._ends)


class Simulation:
    """Events in order of time; nothing else moves the clock."""

    def __init__(
        self,
        replicas: int,
        *,
        routers: int = 1,
        max_waiting: int = 10_000,
        max_wait_s: float = 30,
    ) -> None:
        self.now_s = 0.0
        self.replicas = [SimulatedReplica() for _ in range(replicas)]
        self.admissions: list[Admission[SimulatedReplica]] = [
            Admission(
                CAPACITY, max_waiting=max_waiting, max_wait_s=max_wait_s, startup_s=60, now_s=0
            )
            for _ in range(routers)
        ]
        self.admission = self.admissions[0]
        for admission in self.admissions:
            admission.update(self.replicas, None, 0)
        self.done: list[Job] = []
        self.given_up: list[Job] = []
        self._jobs: dict[Ticket, Job] = {}
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
        self.replicas += [SimulatedReplica() for _ in range(number)]
        self.admission.update(self.replicas, None, self.now_s)

    def share(self, every_s: float, until_s: float) -> None:
        """The routers tell each other of themselves, one after the other."""
        peers = [OtherRouters() for _ in self.admissions]
        for admission in self.admissions:
            admission.news = []

        def tell() -> None:
            for at, admission in enumerate(self.admissions):
                own = admission.router_demand(str(at))
                for other, hearing in enumerate(peers):
                    if other != at:
                        hearing.hear(own, self.now_s)
                news, admission.news = admission.news or [], []
                for each in news:
                    for peer in self.admissions:
                        if peer is not admission:
                            peer.promises.hear(each, self.now_s)
                allotment = peers[at].allotment(
                    own, len(self.replicas), used(self.replicas), self.now_s
                )
                admission.update(self.replicas, allotment, self.now_s)
            if self.now_s < until_s:
                self.at(self.now_s + every_s, tell)

        self.at(0, tell)

    def _try(self, job: Job) -> None:
        if job.pick_router is not None:
            job.router = job.pick_router()
        outcome = self.admissions[job.router].offer(job.demand, self.now_s)
        if isinstance(outcome, Refusal):
            self._refused(job, outcome)
        else:
            self._jobs[outcome] = job

    def _refused(self, job: Job, refusal: Refusal) -> None:
        job.refusals.append((self.now_s, refusal))
        if refusal.retry_after_s is None or not job.returns:
            self.given_up.append(job)
        else:
            self.at(self.now_s + refusal.retry_after_s, lambda: self._try(job))

    def _settle(self) -> None:
        for admission in self.admissions:
            for ticket, refusal in admission.dismissed(self.now_s):
                self._refused(self._jobs.pop(ticket), refusal)
            while (placed := admission.next(self.now_s)) is not None:
                ticket, fitting = placed
                job = self._jobs.pop(ticket)
                job.placed_at_s = self.now_s
                replica = min(fitting, key=lambda r: r.load.kv_tokens)
                replica.start(job, ticket, self.now_s)
                self._watch(replica)
            expiry_s = admission.next_expiry_s()
            if expiry_s is not None and not self.now_s < self._wake_s <= expiry_s:
                self._wake_s = expiry_s
                self.at(expiry_s, lambda: None)

    def _watch(self, replica: SimulatedReplica) -> None:
        replica.version += 1
        version = replica.version

        def end() -> None:
            if replica.version != version:
                return
            job, ticket = replica.finish(self.now_s)
            job.done_at_s = self.now_s
            self.done.append(job)
            self.admissions[job.router].end(ticket, True, self.now_s)
            if replica.busy:
                self._watch(replica)

        if replica.busy:
            self.at(replica.next_end_s(), end)

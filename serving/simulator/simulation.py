"""Runs a load through routers and engines in simulated time."""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from serving.admission import Admission, Capacity, Demand, Refusal, Ticket
from serving.placement.events import Ended, Event, FirstToken
from serving.placement.fleet import Fleet
from serving.placement.load import ReplicaLoad
from serving.placement.work import Work
from serving.simulator.engine import Engine, EngineSpec
from serving.simulator.request import Outcome, Request
from serving.simulator.result import Result
from serving.simulator.workload import Arrival

NO_REPLICA = -1
"""The replica of a request that the router refused."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    load: ReplicaLoad
    capacity: Capacity


class Simulation:
    """`routers` place requests on `replicas` engines, with the live router's own code; a request
    comes to any router. What happens at one the others learn `lag_s` later, or never if that is
    None. `joins_s`: when further replicas are there, all empty.

    `max_wait_s`: each router admits as the live one does, with so long a wait for room at most, and
    clients that are refused do not come back; None: requests go to the engines at once.
    `max_step_ms`: see `Capacity`.

    No router knows an answer's length beforehand: all are expected to have `output_tokens`.
    """

    def __init__(
        self,
        spec: EngineSpec,
        replicas: int,
        new_fleet: Callable[[], Fleet],
        *,
        output_tokens: int,
        routers: int = 1,
        lag_s: float | None = None,
        joins_s: Iterable[float] = (),
        max_wait_s: float | None = None,
        max_step_ms: float = math.inf,
        seed: int = 0,
    ) -> None:
        self._spec = spec
        self._fleets = [new_fleet() for _ in range(routers)]
        capacity = Capacity(spec.kv_cache_tokens, spec.max_num_seqs, max_step_ms)
        self._capacity = capacity
        self._admissions: list[Admission[_Candidate]] = []
        if max_wait_s is not None:
            self._admissions = [
                Admission(capacity, max_waiting=1000, max_wait_s=max_wait_s, startup_s=60, now_s=0)
                for _ in range(routers)
            ]
        self._waiting: dict[Ticket, tuple[Request, float]] = {}
        """The time is that of its sending."""
        self._output_tokens = output_tokens
        self._lag_s = lag_s
        self._rng = random.Random(seed)
        self._engines: list[Engine] = []
        self._replicas: dict[str, int] = {}
        self._outcomes: list[Outcome] = []
        self._placed: dict[int, tuple[int, int, Ticket | None]] = {}
        """Router, number of the request and its admission, by the outcome's identity."""
        self._outstanding: list[int] = []
        self._spread_sum = 0.0
        self._spread_count = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        for _ in range(replicas):
            self._add_replica(0.0)
        for join_s in joins_s:
            self._at(join_s, self._add_replica)

    def run(self, arrivals: Iterable[Arrival]) -> Result:
        """All requests to their end, but those that the engines refuse. Call it once."""
        for arrival in arrivals:
            self._at(arrival.at_s, partial(self._send, arrival.request))
        while self._events:
            now_s, _, event = heapq.heappop(self._events)
            event(now_s)
        spread = self._spread_sum / max(self._spread_count, 1)
        return Result(self._outcomes, self._engines, spread)

    def _at(self, time_s: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), event))

    def _add_replica(self, now_s: float) -> None:
        replica_id = f"replica-{len(self._engines)}"
        self._replicas[replica_id] = len(self._engines)
        self._engines.append(Engine(self._spec))
        self._outstanding.append(0)
        for fleet in self._fleets:
            fleet.add(replica_id, self._spec.kv_cache_tokens, self._spec.max_num_seqs)
        for admission, fleet in zip(self._admissions, self._fleets, strict=False):
            candidates = [_Candidate(load, self._capacity) for load in fleet.loads.values()]
            admission.update(candidates, None, now_s)

    def _send(self, request: Request, now_s: float) -> None:
        router = self._rng.randrange(len(self._fleets))
        if not self._admissions:
            self._place(request, router, self._fleets[router].loads, now_s, now_s)
            return
        fleet = self._fleets[router]

        def cached_tokens(candidates: Iterable[_Candidate]) -> list[int]:
            return fleet.cached_tokens(request.prefix, (c.load.replica_id for c in candidates))

        kv_tokens = request.prompt_tokens + self._output_tokens
        demand = Demand(kv_tokens, cached_tokens=cached_tokens)
        offered = self._admissions[router].offer(demand, now_s)
        if isinstance(offered, Refusal):
            self._outcomes.append(Outcome(request, now_s, NO_REPLICA))
            return
        self._waiting[offered] = request, now_s
        self._at(offered.expires_at_s, partial(self._look, router))
        self._look(router, now_s)

    def _look(self, router: int, now_s: float) -> None:
        """Hands out what room there is."""
        if not self._admissions:
            return
        admission = self._admissions[router]
        for ticket, _ in admission.dismissed(now_s):
            request, sent_s = self._waiting.pop(ticket)
            self._outcomes.append(Outcome(request, sent_s, NO_REPLICA))
        while (handed := admission.next(now_s)) is not None:
            ticket, candidates = handed
            replica_ids = [candidate.load.replica_id for candidate in candidates]
            request, sent_s = self._waiting.pop(ticket)
            self._place(request, router, replica_ids, sent_s, now_s, ticket)

    def _place(
        self,
        request: Request,
        router: int,
        replica_ids: Iterable[str],
        sent_s: float,
        now_s: float,
        ticket: Ticket | None = None,
    ) -> None:
        fleet = self._fleets[router]
        work = Work(request.prefix, request.prompt_tokens, self._output_tokens, request.session)
        placed = fleet.decide(work, replica_ids, now_s)
        self._tell(placed, router, now_s)
        replica = self._replicas[placed.replica_id]
        outcome = Outcome(request, sent_s, replica, expected_cached_tokens=placed.cached_tokens)
        self._outcomes.append(outcome)
        engine = self._engines[replica]
        before_s = engine.next_s
        try:
            engine.submit(outcome, now_s)
        except ValueError:
            self._tell(Ended(placed.request), router, now_s)
            if ticket is not None:
                self._admissions[router].end(ticket, False, now_s)
            return
        self._placed[id(outcome)] = router, placed.request, ticket
        self._outstanding[replica] += 1
        self._spread_sum += _variation(self._outstanding)
        self._spread_count += 1
        if engine.next_s is not None and engine.next_s != before_s:
            self._at(engine.next_s, partial(self._advance, engine))

    def _advance(self, engine: Engine, now_s: float) -> None:
        if engine.next_s != now_s:
            return
        firsts, ends = engine.advance(now_s)
        if engine.next_s is not None:
            self._at(engine.next_s, partial(self._advance, engine))
        for outcome in firsts:
            router, number, _ = self._placed[id(outcome)]
            self._tell(FirstToken(number), router, now_s)
        for outcome in ends:
            router, number, ticket = self._placed.pop(id(outcome))
            request = outcome.request
            self._tell(Ended(number, request.output_tokens), router, now_s)
            if ticket is not None:
                self._admissions[router].end(ticket, True, now_s)
            self._outstanding[outcome.replica] -= 1
            if request.next_turn is not None:
                self._at(now_s + request.think_s, partial(self._send, request.next_turn))
        if ends:
            for router in range(len(self._fleets)):
                self._look(router, now_s)

    def _tell(self, event: Event, router: int, now_s: float) -> None:
        self._fleets[router].apply(event, now_s)
        if self._lag_s is not None and len(self._fleets) > 1:
            self._at(now_s + self._lag_s, partial(self._tell_others, event, router))

    def _tell_others(self, event: Event, router: int, now_s: float) -> None:
        for other, fleet in enumerate(self._fleets):
            if other != router:
                fleet.apply(event, now_s, source=f"router-{router}")


def _variation(values: list[int]) -> float:
    """The standard deviation over the mean."""
    mean = sum(values) / len(values)
    return float((sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5 / mean)

"""Runs a load through routers and engines in simulated time."""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from serving.admission import Admission, Capacity, Demand, Refusal, Ticket
from serving.placement.events import Ended, Event, FirstToken, Placed
from serving.placement.expected_output import ExpectedOutput
from serving.placement.fleet import Fleet
from serving.placement.load import ReplicaLoad
from serving.placement.work import Work
from serving.scaling import Scaler
from serving.scaling.arrivals import Arrival
from serving.simulator import demand, workload
from serving.simulator.engine import EngineSpec
from serving.simulator.replicas import Replica, Replicas
from serving.simulator.request import Outcome, Request
from serving.simulator.result import Result, Sample

NO_REPLICA = -1
"""The replica of a request that the router refused."""

_MAX_WAITING = 1000
_STARTUP_S = 60.0
_TELL_EVERY = 1024


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """`scaler` is asked every `period_s`, by default as often as the live one; a replica takes
    `startup_s` until it takes requests, with an empty cache. Of those to go the ones that still
    start are the first, then the youngest. Without a scaler the demand is only looked at.
    """

    scaler: Scaler | None
    startup_s: float = 120.0
    period_s: float = 2.0


@dataclass(frozen=True, slots=True)
class _Candidate:
    load: ReplicaLoad
    capacity: Capacity


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    sent_s: float
    arrival: Arrival


class Simulation:
    """`routers` place requests on `replicas` engines, with the live router's own code; a request
    comes to any router. What happens at one the others learn `lag_s` later, or never if that is
    None. `joins_s`: when further replicas are there, all empty.

    `max_wait_s`: each router admits as the live one does, with so long a wait for room at most, and
    clients that are refused do not come back; None: requests go to the engines at once.
    `max_itl_ms`: see `Capacity`.

    No router knows an answer's length beforehand: all are expected to have `output_tokens`, or, if
    that is None, what it learns as the live one does.

    `autoscaling` needs `max_wait_s`, as requests wait while there is no replica.

    `on_end` is given every outcome, the refused as well; the result then has none of them.
    """

    def __init__(
        self,
        spec: EngineSpec,
        replicas: int,
        new_fleet: Callable[[], Fleet],
        *,
        output_tokens: int | None = None,
        routers: int = 1,
        lag_s: float | None = None,
        joins_s: Iterable[float] = (),
        max_wait_s: float | None = None,
        max_itl_ms: float = math.inf,
        autoscaling: Autoscaling | None = None,
        seed: int = 0,
        on_end: Callable[[Outcome], None] | None = None,
    ) -> None:
        if autoscaling is not None and max_wait_s is None:
            raise ValueError("autoscaling needs max_wait_s")
        self._spec = spec
        self._replicas = Replicas(spec)
        self._fleets = [new_fleet() for _ in range(routers)]
        capacity = Capacity(spec.kv_cache_tokens, spec.max_num_seqs, max_itl_ms)
        self._capacity = capacity
        self._autoscaling = autoscaling
        startup_s = autoscaling.startup_s if autoscaling is not None else _STARTUP_S
        self._demand = demand.Demand(spec, routers, startup_s)
        self._admissions: list[Admission[_Candidate]] = []
        if max_wait_s is not None:
            self._admissions = [
                Admission(
                    capacity,
                    max_waiting=_MAX_WAITING,
                    max_wait_s=max_wait_s,
                    startup_s=startup_s,
                    now_s=0,
                )
                for _ in range(routers)
            ]
        self._waiting: dict[Ticket, _Waiting] = {}
        self._output_tokens = output_tokens
        self._expected = [ExpectedOutput() for _ in range(routers)]
        self._lag_s = lag_s
        self._rng = random.Random(seed)
        self._on_end = on_end
        self._outcomes: list[Outcome] = []
        self._samples: list[Sample] = []
        self._placed: dict[int, tuple[int, int, Ticket | None]] = {}
        """Router, number of the request and its admission, by the outcome's identity."""
        self._to_come = 0
        """Arrivals that are known to come."""
        self._spread_sum = 0.0
        self._spread_count = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        for replica in [self._replicas.ask(0.0) for _ in range(replicas)]:
            self._join(replica, 0.0)
        self._update_admissions(0.0)
        for join_s in joins_s:
            self._at(join_s, self._add_replica)

    def run(
        self, arrivals: Iterable[workload.Arrival], progress: Callable[[float], None] | None = None
    ) -> Result:
        """All requests to their end, but those that the engines refuse. `arrivals` are in the order
        of time. `progress` is told the simulated time now and then. Call it once.
        """
        events = self._events
        coming = iter(arrivals)
        arrival = next(coming, None)
        self._to_come += arrival is not None
        if self._autoscaling is not None:
            self._at(0.0, self._scale)
        now_s = 0.0
        for turn in itertools.count():
            if arrival is not None and (not events or arrival.at_s <= events[0][0]):
                now_s, request = arrival.at_s, arrival.request
                arrival = next(coming, None)
                self._to_come += arrival is not None
                self._send(request, now_s)
            elif events:
                now_s, _, event = heapq.heappop(events)
                event(now_s)
            else:
                break
            if progress is not None and turn % _TELL_EVERY == 0:
                progress(now_s)
        spread = self._spread_sum / max(self._spread_count, 1)
        return Result(self._outcomes, self._replicas.all, spread, self._samples, now_s)

    def _at(self, time_s: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), event))

    # Replicas

    def _add_replica(self, now_s: float) -> None:
        self._join(self._replicas.ask(now_s), now_s)
        self._update_admissions(now_s)

    def _join(self, replica: Replica, now_s: float) -> None:
        self._replicas.come_up(replica, now_s)
        for fleet in self._fleets:
            fleet.add(replica.replica_id, self._spec.kv_cache_tokens, self._spec.max_num_seqs)

    def _update_admissions(self, now_s: float) -> None:
        for router, admission in enumerate(self._admissions):
            loads = self._fleets[router].loads
            admission.update(
                [_Candidate(load, self._capacity) for load in loads.values()], None, now_s
            )
            self._look(router, now_s)

    def _scale(self, now_s: float) -> None:
        autoscaling = self._autoscaling
        assert autoscaling is not None
        replicas = self._replicas
        observed = self._demand.observe(
            self._fleets,
            [admission.drain for admission in self._admissions],
            up=len(replicas.up),
            starting=len(replicas.starting),
            draining=replicas.draining,
            now_s=now_s,
        )
        needed = 0.0 if observed is None else demand.replicas_needed(observed)
        self._samples.append(
            Sample(
                now_s,
                len(replicas.up),
                len(replicas.starting),
                replicas.draining,
                needed,
                len(self._waiting),
            )
        )
        if autoscaling.scaler is not None and observed is not None:
            decision = autoscaling.scaler.decide(observed, now_s)
            for _ in range(decision.replicas - observed.replicas):
                self._at(now_s + autoscaling.startup_s, partial(self._started, replicas.ask(now_s)))
            for _ in range(observed.replicas - decision.replicas):
                self._remove_replica(now_s)
        if self._to_come or self._placed or self._waiting:
            self._at(now_s + autoscaling.period_s, self._scale)

    def _started(self, replica: Replica, now_s: float) -> None:
        if replica.gone_s is None:
            self._join(replica, now_s)
            self._update_admissions(now_s)

    def _remove_replica(self, now_s: float) -> None:
        replicas = self._replicas
        if replicas.starting:
            replicas.cancel(replicas.starting[-1], now_s)
            return
        replica = replicas.up[-1]
        for fleet in self._fleets:
            fleet.remove(replica.replica_id)
        replicas.drain(replica, now_s)
        self._update_admissions(now_s)

    # Requests

    def _send(self, request: Request, now_s: float) -> None:
        self._to_come -= 1
        router = self._rng.randrange(len(self._fleets))
        fleet = self._fleets[router]
        if not self._admissions:
            self._place(request, router, fleet.loads, now_s, now_s)
            return

        work = self._work(request, router)

        def choose(candidates: Sequence[_Candidate], now_s: float) -> int:
            return fleet.choose(work, self._ids(candidates, router), now_s)

        kv_tokens = work.prompt_tokens + work.output_tokens
        arrivals = self._demand.arrivals[router]
        arrival = arrivals.come(kv_tokens, returns=False)
        offered = self._admissions[router].offer(Demand(kv_tokens, choose=choose), now_s)
        if isinstance(offered, Refusal):
            arrival.count(self._uncached_tokens(request, router))
            self._finish(Outcome(request, now_s, NO_REPLICA))
            return
        self._waiting[offered] = _Waiting(request, now_s, arrival)
        self._look(router, now_s)
        if offered in self._waiting:
            arrival.waits(self._uncached_tokens(request, router))
            self._at(offered.expires_at_s, partial(self._look, router))

    def _work(self, request: Request, router: int) -> Work:
        output_tokens = self._expected_tokens(router)
        return Work(request.prefix, request.prompt_tokens, output_tokens, request.session)

    def _ids(self, candidates: Sequence[_Candidate], router: int) -> Iterable[str]:
        if candidates is self._admissions[router].replicas:
            return self._fleets[router].loads
        return [candidate.load.replica_id for candidate in candidates]

    def _expected_tokens(self, router: int) -> int:
        if self._output_tokens is not None:
            return self._output_tokens
        return self._expected[router].tokens(None)

    def _uncached_tokens(self, request: Request, router: int) -> int:
        fleet = self._fleets[router]
        cached = max(fleet.cached_tokens(request.prefix, fleet.loads), default=0)
        return max(request.prompt_tokens - cached, 0)

    def _look(self, router: int, now_s: float) -> None:
        """Hands out what room there is."""
        if not self._admissions:
            return
        admission = self._admissions[router]
        for ticket, _ in admission.dismissed(now_s):
            gone = self._waiting.pop(ticket)
            gone.arrival.left()
            self._finish(Outcome(gone.request, gone.sent_s, NO_REPLICA))
        while (handed := admission.next(now_s)) is not None:
            ticket, candidates = handed
            replica_ids = self._ids(candidates, router)
            waited = self._waiting.pop(ticket)
            waited.arrival.left()
            placed = self._place(waited.request, router, replica_ids, waited.sent_s, now_s, ticket)
            waited.arrival.count(max(waited.request.prompt_tokens - placed.cached_tokens, 0))

    def _place(
        self,
        request: Request,
        router: int,
        replica_ids: Iterable[str],
        sent_s: float,
        now_s: float,
        ticket: Ticket | None = None,
    ) -> Placed:
        fleet = self._fleets[router]
        placed = fleet.decide(self._work(request, router), replica_ids, now_s)
        self._tell(placed, router, now_s)
        replica = self._replicas.by_id[placed.replica_id]
        outcome = Outcome(
            request, sent_s, replica.number, expected_cached_tokens=placed.cached_tokens
        )
        engine = replica.engine
        before_s = engine.next_s
        try:
            engine.submit(outcome, now_s)
        except ValueError:
            self._tell(Ended(placed.request), router, now_s)
            if ticket is not None:
                self._admissions[router].end(ticket, False, now_s)
            self._finish(outcome)
            return placed
        if self._on_end is None:
            self._outcomes.append(outcome)
        self._placed[id(outcome)] = router, placed.request, ticket
        self._replicas.add_user(replica)
        self._spread_sum += self._replicas.spread()
        self._spread_count += 1
        if engine.next_s is not None and engine.next_s != before_s:
            self._at(engine.next_s, partial(self._advance, replica))
        return placed

    def _advance(self, replica: Replica, now_s: float) -> None:
        engine = replica.engine
        if engine.next_s != now_s:
            return
        firsts, ends = engine.advance(now_s)
        if engine.next_s is not None:
            self._at(engine.next_s, partial(self._advance, replica))
        for outcome in firsts:
            router, number, _ = self._placed[id(outcome)]
            self._tell(FirstToken(number), router, now_s)
        for outcome in ends:
            self._end(outcome, replica, now_s)
        if ends:
            for router in range(len(self._fleets)):
                self._look(router, now_s)

    def _end(self, outcome: Outcome, replica: Replica, now_s: float) -> None:
        router, number, ticket = self._placed.pop(id(outcome))
        request = outcome.request
        self._tell(Ended(number, request.output_tokens), router, now_s)
        self._expected[router].observe(request.output_tokens)
        if ticket is not None:
            self._admissions[router].end(ticket, True, now_s)
        self._replicas.remove_user(replica, now_s)
        if self._on_end is not None:
            self._on_end(outcome)
        if request.next_turn is not None:
            self._to_come += 1
            self._at(now_s + request.think_s, partial(self._send, request.next_turn))

    def _finish(self, outcome: Outcome) -> None:
        """One that no engine took."""
        if self._on_end is None:
            self._outcomes.append(outcome)
        else:
            self._on_end(outcome)

    def _tell(self, event: Event, router: int, now_s: float) -> None:
        self._fleets[router].apply(event, now_s)
        if self._lag_s is not None and len(self._fleets) > 1:
            self._at(now_s + self._lag_s, partial(self._tell_others, event, router))

    def _tell_others(self, event: Event, router: int, now_s: float) -> None:
        for other, fleet in enumerate(self._fleets):
            if other != router:
                fleet.apply(event, now_s, source=f"router-{router}")

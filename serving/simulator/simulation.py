"""Runs a load through routers and engines in simulated time."""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from serving import dispatch
from serving.dispatch import (
    DEMAND_PERIOD_S,
    Dispatcher,
    Exceeded,
    Limits,
    Permit,
    RateLimiter,
    Reservation,
    Spent,
    State,
)
from serving.placement import Capacity, Policy, Rates, Work
from serving.scaling import Scaler
from serving.simulator import demand, workload
from serving.simulator.adapters import AdaptersConfig, LoadedAdapters
from serving.simulator.connection import connect
from serving.simulator.engine import EngineSpec
from serving.simulator.replicas import Replica, Replicas
from serving.simulator.request import Outcome, Request
from serving.simulator.result import Result, Sample
from serving.simulator.tenants import TenantLoad

NO_REPLICA = -1
"""Stands for the replica of a request that was rejected."""

_MAX_WAITING = 1000
_STARTUP_S = 60.0
_TELL_EVERY = 1024


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """The scaling of a run. `scaler` is called every `period_s`, by default as often as the live
    one. A replica takes requests `startup_s` after it was requested, with an empty cache. Replicas
    that still start are removed first, then the youngest. Without a scaler the demand is only
    observed."""

    scaler: Scaler | None
    startup_s: float = 120.0
    period_s: float = 2.0


class Simulation:
    """A run in simulated time. `routers` place requests on `replicas` engines, each with the live
    router's `Dispatcher`; a request arrives at any router. What one publishes, its demand included,
    the others receive `lag_s` later, or never if that is None. `joins_s` are the times at which
    further replicas join, with empty caches.

    `max_wait_s` is the longest wait in a router's queue; None: requests go to the engines at once.
    Clients that are rejected do not return, though a retry reservation is made for them as in the
    live service: an outcome is that of a request as it was sent, and a retry would be counted among
    the load's own requests. `max_itl_ms` and `waits_for_choice`: see `Dispatcher`.

    No router knows an answer's length beforehand: it expects `output_tokens` for all or, if that is
    None, what it learns as the live one does. `first_rates` makes the first guess of a replica's
    speed.

    `autoscaling` needs `max_wait_s`, as requests wait while there is no replica.

    `tenants` share the fleet by their weights, within their limits; their requests name them.

    `adapters` is the room for those that requests name.

    `on_end` receives every outcome, those of rejected requests included; the result then has none.
    """

    def __init__(
        self,
        spec: EngineSpec,
        replicas: int,
        new_policy: Callable[[], Policy],
        first_rates: Callable[[], Rates] = Rates,
        *,
        output_tokens: int | None = None,
        routers: int = 1,
        lag_s: float | None = None,
        joins_s: Iterable[float] = (),
        max_wait_s: float | None = None,
        max_itl_ms: float = math.inf,
        waits_for_choice: bool = True,
        autoscaling: Autoscaling | None = None,
        tenants: Iterable[TenantLoad] = (),
        adapters: AdaptersConfig | None = None,
        seed: int = 0,
        on_end: Callable[[Outcome], None] | None = None,
    ) -> None:
        if autoscaling is not None and max_wait_s is None:
            raise ValueError("autoscaling needs max_wait_s")
        startup_s = _STARTUP_S if autoscaling is None else autoscaling.startup_s
        limits = None if max_wait_s is None else Limits(_MAX_WAITING, max_wait_s, startup_s)
        self._capacity = Capacity(
            spec.kv_cache_tokens, spec.max_num_seqs, spec.host_kv_cache_tokens
        )
        self.dispatchers = [
            Dispatcher(
                new_policy(),
                self._capacity,
                limits,
                now_s=0.0,
                first_rates=first_rates,
                max_itl_ms=max_itl_ms,
                waits_for_choice=waits_for_choice,
                max_loras=0 if adapters is None else adapters.max_loras,
            )
            for _ in range(routers)
        ]
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._limiters = [RateLimiter() for _ in range(routers)]
        self._permits: dict[int, Permit] = {}
        """The permits of tenants with limits, by the outcome's identity."""
        self._is_connected = routers > 1 and lag_s is not None
        if routers > 1 and lag_s is not None:
            connect(
                self.dispatchers,
                self._limiters,
                lambda event: self._at(self._now_s + lag_s, event),
                self._poll,
            )
        self._adapters = adapters
        self.loaded = None if adapters is None else LoadedAdapters(adapters)
        self._replicas = Replicas(spec)
        self._autoscaling = autoscaling
        self._demand = demand.Demand(self.dispatchers, startup_s)
        self._output_tokens = output_tokens
        self._rng = random.Random(seed)
        self._keys = itertools.count()
        self._on_end = on_end
        self._outcomes: list[Outcome] = []
        self._samples: list[Sample] = []
        self._waiting: dict[Reservation, Outcome] = {}
        self._running: dict[int, tuple[int, Reservation]] = {}
        """Router and reservation, by the outcome's identity."""
        self._to_come = 0
        """Number of arrivals that are known to come."""
        self._until_s = math.inf
        self._now_s = 0.0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._wakes_at_s = [0.0] * routers
        for replica in [self._replicas.ask(0.0) for _ in range(replicas)]:
            self._replicas.come_up(replica, 0.0)
        self._update(0.0)
        for join_s in joins_s:
            self._at(join_s, lambda now_s: self._join(self._replicas.ask(now_s), now_s))

    def run(
        self,
        arrivals: Iterable[workload.Arrival],
        progress: Callable[[float], None] | None = None,
        until_s: float = math.inf,
    ) -> Result:
        """Runs all requests to their end, except those that the engines refuse. `arrivals` are in
        the order of time. `progress` receives the simulated time now and then. After `until_s` no
        request is sent. Can be called once.
        """
        self._until_s = until_s
        events = self._events
        coming = iter(arrivals)
        arrival = next(coming, None)
        self._to_come += arrival is not None
        if self._autoscaling is not None:
            self._at(0.0, self._scale)
        if self._is_connected:
            routers = len(self.dispatchers)
            for router in range(routers):
                begins_s = DEMAND_PERIOD_S * router / routers
                self._at(begins_s, partial(self._publish_demand, router))
        for turn in itertools.count():
            if arrival is not None and (not events or arrival.at_s <= events[0][0]):
                self._now_s, request = arrival.at_s, arrival.request
                arrival = next(coming, None)
                self._to_come += arrival is not None
                self._send(request, self._now_s)
            elif events:
                self._now_s, _, event = heapq.heappop(events)
                event(self._now_s)
            else:
                break
            if progress is not None and turn % _TELL_EVERY == 0:
                progress(self._now_s)
        return Result(self._outcomes, self._replicas.all, self._samples, self._now_s)

    def _at(self, time_s: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), event))

    @property
    def _is_busy(self) -> bool:
        return bool(self._to_come or self._running or self._waiting)

    # Replicas

    def _join(self, replica: Replica, now_s: float) -> None:
        self._replicas.come_up(replica, now_s)
        self._update(now_s)

    def _update(self, now_s: float) -> None:
        up = {replica.replica_id: self._capacity for replica in self._replicas.up}
        for router, dispatcher in enumerate(self.dispatchers):
            dispatcher.update(up, now_s)
            if self._adapters is not None:
                for load in dispatcher.fleet.loads.values():
                    load.adapter_load_ms = self._adapters.load_ms
            self._poll(router, now_s)

    def _scale(self, now_s: float) -> None:
        autoscaling = self._autoscaling
        assert autoscaling is not None
        replicas = self._replicas
        observed = self._demand.observe(
            up=len(replicas.up), starting=len(replicas.starting), now_s=now_s
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
        if self._is_busy:
            self._at(now_s + autoscaling.period_s, self._scale)

    def _started(self, replica: Replica, now_s: float) -> None:
        if replica.gone_s is None:
            self._join(replica, now_s)

    def _remove_replica(self, now_s: float) -> None:
        replicas = self._replicas
        if replicas.starting:
            replicas.cancel(replicas.starting[-1], now_s)
            return
        replicas.drain(replicas.up[-1], now_s)
        self._update(now_s)

    # Requests

    def _send(self, request: Request, now_s: float, sent_s: float | None = None) -> None:
        """`sent_s` is the time at which the client sent it, if that was earlier."""
        self._to_come -= 1
        if now_s > self._until_s:
            return
        router = self._rng.randrange(len(self.dispatchers))
        dispatcher = self.dispatchers[router]
        output_tokens = self._output_tokens
        if output_tokens is None:
            output_tokens = dispatcher.expected_output.tokens(None)
        work = Work(
            request.prefix,
            request.prompt_tokens,
            output_tokens,
            request.session,
            streamed=not request.background,
            adapter=request.adapter,
            background=request.background,
        )
        outcome = Outcome(request, now_s if sent_s is None else sent_s, NO_REPLICA)
        asked = dispatch.Request(work, key=next(self._keys))
        if request.tenant:
            tenant = self._tenants[request.tenant]
            asked = replace(asked, tenant=tenant.name, weight=tenant.weight)
            if tenant.limits is not None:
                tokens = work.prompt_tokens + work.output_tokens
                permit = self._limiters[router].admit(tenant.name, tenant.limits, tokens, now_s)
                if isinstance(permit, Exceeded):
                    self._finish(outcome)
                    return
                self._permits[id(outcome)] = permit
        reservation = dispatcher.submit(asked, now_s)
        if isinstance(reservation, dispatch.Rejection):
            self._refuse(outcome, router, now_s)
        else:
            self._waiting[reservation] = outcome
            self._poll(router, now_s)

    def _poll(self, router: int, now_s: float) -> None:
        """Starts the requests that were placed, and sets the time of the next poll."""
        dispatcher = self.dispatchers[router]
        while changed := dispatcher.poll(now_s):
            for reservation in changed:
                outcome = self._waiting.pop(reservation)
                if reservation.state is State.PLACED:
                    self._start(reservation, outcome, router, now_s)
                else:
                    self._refuse(outcome, router, now_s)
        due_s = dispatcher.next_due_s()
        if due_s < math.inf and not now_s < self._wakes_at_s[router] <= due_s:
            self._wakes_at_s[router] = due_s
            self._at(due_s, partial(self._poll, router))

    def _start(self, reservation: Reservation, outcome: Outcome, router: int, now_s: float) -> None:
        replica = self._replicas.by_id[reservation.replica_id]
        outcome.replica = replica.number
        outcome.expected_cached_tokens = reservation.cached_tokens
        if self.loaded is not None and outcome.request.adapter:
            id = replica.replica_id
            ready_s = self.loaded.ready_s(id, outcome.request.adapter, now_s)
            self._tell_of_adapters(id)
            if ready_s > now_s:
                self._at(ready_s, partial(self._begin, reservation, outcome, router, replica))
                return
        self._begin(reservation, outcome, router, replica, now_s)

    def _tell_of_adapters(self, replica_id: str) -> None:
        """Tells all routers what a replica has loaded."""
        assert self.loaded is not None and self._adapters is not None
        resident = self.loaded.resident(replica_id)
        for dispatcher in self.dispatchers:
            load = dispatcher.fleet.loads.get(replica_id)
            if load is not None:
                load.resident_adapters = resident
                load.adapter_load_ms = self._adapters.load_ms

    def _begin(
        self,
        reservation: Reservation,
        outcome: Outcome,
        router: int,
        replica: Replica,
        now_s: float,
    ) -> None:
        engine = replica.engine
        before_s = engine.next_s
        try:
            engine.submit(outcome, now_s)
        except ValueError:
            self.dispatchers[router].release(reservation, dispatch.Outcome.FAILED, now_s)
            self._refuse(outcome, router, now_s)
            return
        if self._on_end is None:
            self._outcomes.append(outcome)
        self._running[id(outcome)] = router, reservation
        replica.users += 1
        if engine.next_s is not None and engine.next_s != before_s:
            self._at(engine.next_s, partial(self._advance, replica))

    def _advance(self, replica: Replica, now_s: float) -> None:
        engine = replica.engine
        if engine.next_s != now_s:
            return
        firsts, ends = engine.advance(now_s)
        if engine.next_s is not None:
            self._at(engine.next_s, partial(self._advance, replica))
        for outcome in firsts:
            router, reservation = self._running[id(outcome)]
            self.dispatchers[router].first_token(reservation, now_s)
        for router in {self._end(outcome, replica, now_s) for outcome in ends}:
            self._poll(router, now_s)

    def _end(self, outcome: Outcome, replica: Replica, now_s: float) -> int:
        """The router at which the request arrived."""
        router, reservation = self._running.pop(id(outcome))
        request = outcome.request
        spent = Spent(request.prompt_tokens - outcome.cached_tokens, request.output_tokens)
        self.dispatchers[router].release(
            reservation, dispatch.Outcome.SERVED, now_s, request.output_tokens, spent
        )
        permit = self._permits.pop(id(outcome), None)
        if permit is not None:
            tokens = request.prompt_tokens + request.output_tokens
            self._limiters[router].end(permit, tokens, now_s)
        self._replicas.remove_user(replica, now_s)
        if self._on_end is not None:
            self._on_end(outcome)
        if request.next_turn is not None:
            self._to_come += 1
            self._at(now_s + request.think_s, partial(self._send, request.next_turn))
        return router

    def _refuse(self, outcome: Outcome, router: int, now_s: float) -> None:
        permit = self._permits.pop(id(outcome), None)
        if permit is not None:
            self._limiters[router].end(permit, 0, now_s, refused=True)
        self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        """Ends a request that no engine accepted."""
        if self._on_end is None:
            self._outcomes.append(outcome)
        else:
            self._on_end(outcome)

    def _publish_demand(self, router: int, now_s: float) -> None:
        self.dispatchers[router].sync.publish_demand(now_s)
        self._poll(router, now_s)
        if self._is_busy:
            self._at(now_s + DEMAND_PERIOD_S, partial(self._publish_demand, router))

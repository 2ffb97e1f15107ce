"""Runs a load through routers and engines in simulated time."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from functools import partial

from serving.simulator.engine import Engine, EngineSpec
from serving.simulator.request import Outcome, Request
from serving.simulator.result import Result
from serving.simulator.router import Router
from serving.simulator.workload import Arrival


class Simulation:
    """`routers` place requests on `replicas` engines; a request comes to any router. What a router
    books, the others learn `lag_s` later, or never if that is None. `joins_s`: when further
    replicas are there, all empty.
    """

    def __init__(
        self,
        spec: EngineSpec,
        replicas: int,
        new_router: Callable[[], Router],
        *,
        routers: int = 1,
        lag_s: float | None = None,
        joins_s: Iterable[float] = (),
        seed: int = 0,
    ) -> None:
        self._spec = spec
        self._routers = [new_router() for _ in range(routers)]
        self._lag_s = lag_s
        self._rng = random.Random(seed)
        self._engines: list[Engine] = []
        self._outcomes: list[Outcome] = []
        self._numbers: dict[int, tuple[int, Router]] = {}
        self._spread_sum = 0.0
        self._spread_samples = 0
        self._outstanding: list[int] = []
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        for _ in range(replicas):
            self._add_replica(0.0)
        for join_s in joins_s:
            self._at(join_s, self._add_replica)

    def run(self, arrivals: Iterable[Arrival]) -> Result:
        """All requests to their end. Call it once."""
        for arrival in arrivals:
            self._at(arrival.at_s, partial(self._send, arrival.request))
        while self._events:
            now_s, _, event = heapq.heappop(self._events)
            event(now_s)
        return Result(
            self._outcomes, self._engines, self._spread_sum / max(self._spread_samples, 1)
        )

    def _at(self, time_s: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), event))

    def _add_replica(self, now_s: float) -> None:
        self._engines.append(Engine(self._spec))
        self._outstanding.append(0)
        for router in self._routers:
            router.add_replica(self._spec)

    def _send(self, request: Request, now_s: float) -> None:
        router = self._rng.choice(self._routers) if len(self._routers) > 1 else self._routers[0]
        replica, cached_tokens = router.choose(request, now_s)
        number = len(self._outcomes)
        outcome = Outcome(request, now_s, replica)
        self._outcomes.append(outcome)
        self._numbers[id(outcome)] = number, router
        router.book(number, request, replica, cached_tokens, now_s)
        self._share(router, now_s, lambda r, t: r.book(number, request, replica, cached_tokens, t))
        self._sample_spread(replica)
        engine = self._engines[replica]
        before_s = engine.next_s
        engine.submit(outcome, now_s)
        self._wake(engine, before_s)

    def _wake(self, engine: Engine, before_s: float | None) -> None:
        if engine.next_s is not None and engine.next_s != before_s:
            self._at(engine.next_s, partial(self._advance, engine))

    def _advance(self, engine: Engine, now_s: float) -> None:
        if engine.next_s != now_s:
            return
        firsts, ends = engine.advance(now_s)
        if engine.next_s is not None:
            self._at(engine.next_s, partial(self._advance, engine))
        for outcome in firsts:
            self._first_token(outcome, now_s)
        for outcome in ends:
            self._end(outcome, now_s)

    def _first_token(self, outcome: Outcome, now_s: float) -> None:
        number, router = self._numbers[id(outcome)]
        router.first_token(number, now_s)
        self._share(router, now_s, lambda r, t: r.first_token(number, t))

    def _end(self, outcome: Outcome, now_s: float) -> None:
        number, router = self._numbers.pop(id(outcome))
        router.end(number, outcome, now_s)
        self._share(router, now_s, lambda r, t: r.end(number, outcome, t))
        self._outstanding[outcome.replica] -= 1
        request = outcome.request
        if request.next_turn is not None:
            self._at(now_s + request.think_s, partial(self._send, request.next_turn))

    def _share(self, router: Router, now_s: float, tell: Callable[[Router, float], None]) -> None:
        if self._lag_s is None or len(self._routers) == 1:
            return
        others = [other for other in self._routers if other is not router]

        def arrive(then_s: float) -> None:
            for other in others:
                tell(other, then_s)

        self._at(now_s + self._lag_s, arrive)

    def _sample_spread(self, replica: int) -> None:
        outstanding = self._outstanding
        outstanding[replica] += 1
        mean = sum(outstanding) / len(outstanding)
        variance = sum((n - mean) ** 2 for n in outstanding) / len(outstanding)
        self._spread_sum += variance**0.5 / mean
        self._spread_samples += 1

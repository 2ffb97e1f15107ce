"""A model as a router serves it: its replicas, what is booked on them, and who waits for room."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from serving.admission import Admission, Demand, Ticket
from serving.admission.allotment import OtherRouters, RouterDemand
from serving.admission.capacity import used
from serving.admission.promises import Kept, Made
from serving.config import RouterConfig
from serving.placement import Ended, Event, FirstToken, Fleet, Placed, Work
from serving.placement.expected_output import ExpectedOutput
from serving.placement.policies import WAIT_FOR_CHOICE, policy
from serving.router import backend_health
from serving.router.admission import Entrance
from serving.router.errors import ApiError
from serving.router.model import Model
from serving.router.model_metrics import ModelMetrics
from serving.router.replica import Replica, ReplicaInfo
from serving.router.replica_health import HealthCheck
from serving.scaling.arrivals import Arrivals
from serving.scaling.report import Report

News = Event | RouterDemand | Made | Kept
"""What routers tell each other of a model."""


class ServedModel:
    """The runtime side of a `Model`, for one router."""

    def __init__(
        self,
        model: Model,
        config: RouterConfig,
        check: HealthCheck,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.replicas: list[Replica] = []
        self.metrics = ModelMetrics()
        self.expected_output = ExpectedOutput()
        self.fleet = Fleet(policy(config.placement), model.first_rates)
        self.waits_for_choice = config.placement in WAIT_FOR_CHOICE
        """Requests do, if it has no room."""
        self.on_event: Callable[[Event], object] | None = None
        """Hears what this router books and releases, for the other routers."""
        self._config = config
        self._check = check if model.backend is None else None
        self._clock = clock
        self.admission: Admission[Replica] = Admission(
            model.capacity,
            max_waiting=config.admission.max_waiting,
            max_wait_s=config.admission.max_wait_s,
            startup_s=config.startup_s if model.backend is None else backend_health.PERIOD_S,
            now_s=clock(),
        )
        self.arrivals = Arrivals()
        self.entrance = Entrance(model.model_id, self.admission, clock)
        self.allotment: float | None = None
        """Parts of a replica that this router may have booked, while there are others."""
        self._other_routers = OtherRouters()
        self._prefill_tokens_per_s = model.first_rates().prefill_tokens_per_s

    @property
    def startup_left_s(self) -> int:
        """Until the first replica is expected, at least 1."""
        return max(1, math.ceil(self.admission.startup_left_s(self._clock())))

    @property
    def max_model_len(self) -> int | None:
        """The context length in tokens; None until a replica was up."""
        return self.replicas[0].info.max_model_len if self.replicas else None

    def update(self, infos: Iterable[ReplicaInfo]) -> None:
        """These replicas are up; who stays keeps its load and connections."""
        infos = list(infos)
        for replica in self.replicas:
            if replica.info not in infos:
                self.fleet.remove(replica.info.replica_id)
                replica.close()
        known = {replica.info: replica for replica in self.replicas}
        self.replicas = [known.get(info) or self._new(info) for info in infos]
        self.refresh()

    def refresh(self) -> None:
        """Lets those who wait see which replicas can take them now."""
        healthy = [replica for replica in self.replicas if not replica.health.left_out]
        self.entrance.update(healthy, self.allotment)

    def _new(self, info: ReplicaInfo) -> Replica:
        capacity = info.capacity
        self.fleet.add(info.replica_id, capacity.kv_cache_tokens, capacity.max_num_seqs)
        if (max_itl_ms := self._config.admission.max_itl_ms) is not None:
            capacity = replace(capacity, max_itl_ms=max_itl_ms)
        return Replica(
            info,
            capacity,
            self.fleet.loads[info.replica_id],
            self._config.connect_timeout_s,
            self._check,
            self.refresh,
        )

    def service_s(self, work: Work) -> float:
        """The least that a replica needs until an answer begins."""
        rates = self.replicas[0].load.rates if self.replicas else self.model.first_rates()
        return rates.first_token_ms(self.uncached_tokens(work)) / 1000

    def uncached_tokens(self, work: Work) -> int:
        """Of its prompt, where most is cached."""
        replica_ids = (replica.info.replica_id for replica in self.replicas)
        cached = max(self.fleet.cached_tokens(work.prefix, replica_ids), default=0)
        return max(work.prompt_tokens - cached, 0)

    def choose(self, work: Work, replicas: Sequence[Replica], now_s: float) -> int:
        """The index of the one of these that placement prefers, room or not."""
        return self.fleet.choose(work, [r.info.replica_id for r in replicas], now_s)

    async def admit(self, work: Work, demand: Demand) -> "Place":
        """Waits until a replica has room and books it. Raises ApiError."""
        returns = demand.key is not None and self.admission.promises.find(demand.key) is not None
        arrival = self.arrivals.come(demand.kv_tokens, returns)

        def take(replicas: Sequence[Replica]) -> "Place":
            place = Place(self, work, replicas)
            arrival.count(max(work.prompt_tokens - place.expected_cached_tokens, 0))
            return place

        def waits() -> None:
            arrival.waits(self.uncached_tokens(work))

        try:
            ticket, place = await self.entrance.enter(demand, take, Place.give_back, waits)
        except ApiError:
            arrival.count(self.uncached_tokens(work))
            raise
        finally:
            arrival.left()
        place.ticket = ticket
        return place

    def decide(self, work: Work, replicas: Sequence[Replica]) -> tuple[Replica, Placed]:
        """Chooses one of these and books it."""
        by_id = {replica.info.replica_id: replica for replica in replicas}
        placed = self.fleet.decide(work, by_id, self._clock())
        self.apply(placed)
        return by_id[placed.replica_id], placed

    def apply(self, event: Event) -> None:
        """An event of this router's."""
        self.fleet.apply(event, self._clock())
        if self.on_event is not None:
            self.on_event(event)

    def hear(self, router_id: str, news: Iterable[News]) -> None:
        """What another router tells, in its order."""
        now_s = self._clock()
        for one in news:
            if isinstance(one, RouterDemand):
                self._other_routers.hear(one, now_s)
            elif isinstance(one, Made | Kept):
                self.admission.promises.hear(one, now_s)
            else:
                self.fleet.apply(one, now_s, router_id)
        self.entrance.look()

    def forget(self, router_id: str) -> None:
        """Another router is gone, and its requests with it."""
        self.fleet.forget(router_id, self._clock())
        self.entrance.look()

    def report(self) -> Report:
        """What the number of replicas is decided by."""
        loads = self.fleet.loads.values()
        learnt = [one.rates.prefill_tokens_per_s for one in loads if one.rates.prefill_is_learnt]
        if learnt:
            self._prefill_tokens_per_s = sum(learnt) / len(learnt)
        capacity = self.admission.capacity
        to_return = self.admission.promises
        return Report(
            offered_prefill_tokens=self.arrivals.prefill_tokens,
            waiting_prefill_tokens=self.arrivals.waiting_prefill_tokens,
            waiting_kv_tokens=self.arrivals.waiting_kv_tokens
            + to_return.expected_share(0) * capacity.kv_cache_tokens,
            waiting_requests=self.arrivals.waiting_requests + to_return.expected,
            running_kv_tokens=sum(load.kv_tokens for load in loads),
            running_requests=sum(load.requests for load in loads),
            draining=self.fleet.leaving(),
            prefill_tokens_per_s=self._prefill_tokens_per_s,
            kv_cache_tokens=capacity.kv_cache_tokens,
            max_num_seqs=capacity.max_num_seqs,
            stay_s=self.admission.drain.stay_s,
        )

    def demand(self, router_id: str) -> RouterDemand:
        """What the others are to know of this router, of that id; and takes this one's part of the
        replicas by what is known of theirs.
        """
        own = self.admission.router_demand(router_id)
        healthy = self.admission.replicas
        allotment = self._other_routers.allotment(own, len(healthy), used(healthy), self._clock())
        if allotment != self.allotment:
            self.allotment = allotment
            self.refresh()
        return own


class Place:
    """A request's place on a replica: what is booked for it, until `leave`."""

    __slots__ = ("_placed", "_served", "_work", "replica", "ticket", "tried")

    def __init__(self, served: ServedModel, work: Work, replicas: Sequence[Replica]) -> None:
        self.ticket: Ticket | None = None
        self._served = served
        self._work = work
        self.replica, self._placed = served.decide(work, replicas)
        self.tried = [self.replica]

    @property
    def expected_cached_tokens(self) -> int:
        return self._placed.cached_tokens

    def first_token(self) -> None:
        """The first bytes of the answer have come."""
        self._served.apply(FirstToken(self._placed.request))

    def move(self) -> bool:
        """Books another replica instead, for this one failed: a healthy one that was not tried,
        whether there is room or not. False if there is none.
        """
        others = [
            replica
            for replica in self._served.replicas
            if replica not in self.tried and not replica.health.left_out
        ]
        if not others:
            return False
        self.give_back()
        self.replica, self._placed = self._served.decide(self._work, others)
        self.tried.append(self.replica)
        return True

    def give_back(self) -> None:
        """Ends the booking of a request that was not answered."""
        self._served.apply(Ended(self._placed.request))

    def leave(self, *, served: bool, output_tokens: int = 0) -> None:
        """The request is over. `served`: the replica did not fail it. `output_tokens`: of an answer
        that is complete.
        """
        self._served.apply(Ended(self._placed.request, output_tokens))
        if output_tokens:
            self._served.expected_output.observe(output_tokens)
        assert self.ticket is not None
        self._served.entrance.leave(self.ticket, served)

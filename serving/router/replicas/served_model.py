"""A model as a router serves it: the futures and the timer around its `Dispatcher`."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from serving.adapters.adapter import Adapter
from serving.config import RouterConfig
from serving.dispatch import (
    Dispatcher,
    Limits,
    Message,
    Outcome,
    Rejection,
    Request,
    Reservation,
    Spent,
    State,
)
from serving.placement.policies import WAIT_FOR_CHOICE, policy
from serving.poison import PoisonMessage
from serving.router.http import errors
from serving.router.replicas import backend_health
from serving.router.replicas.declared_adapters import PERIOD_S, DeclaredAdapters
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import Replica, ReplicaInfo
from serving.router.replicas.trials import Trials
from serving.router.telemetry.model_metrics import ModelMetrics, is_failure, ttft_s
from serving.router.telemetry.request_record import RequestRecord
from serving.scaling.report import Report


class ServedModel:
    """The runtime side of a `Model` in one router.

    The caller of `admit` calls `release` once, when the answer has ended or failed.
    """

    def __init__(
        self,
        model: Model,
        config: RouterConfig,
        check: HealthCheck,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        admission = config.admission
        self.model = model
        self.replicas: list[Replica] = []
        self.metrics = ModelMetrics()
        self.adapters = None if model.adapters is None else DeclaredAdapters(model.adapters)
        self.dispatcher = Dispatcher(
            policy(config.placement),
            model.capacity,
            Limits(
                admission.max_waiting,
                admission.max_wait_s,
                config.startup_s if model.backend is None else backend_health.PERIOD_S,
            ),
            now_s=clock(),
            first_rates=model.first_rates,
            max_itl_ms=math.inf if admission.max_itl_ms is None else admission.max_itl_ms,
            waits_for_choice=config.placement in WAIT_FOR_CHOICE,
            background_scales=config.batches.scale_up,
            max_loras=0 if self.adapters is None else self.adapters.max_loras,
        )
        self.trials = Trials(
            model.model_id,
            lambda: self.replicas,
            self.refresh,
            config.startup_s,
            admission.max_wait_s,
            config.poison_keep_s,
            clock,
        )
        self._connect_timeout_s = config.connect_timeout_s
        self._check = check if model.backend is None else None
        self._clock = clock
        self._by_id: dict[str, Replica] = {}
        self._waiting: dict[Reservation, asyncio.Future[Replica | None]] = {}
        """The future of each waiting reservation resolves to its replica, or None if it was
        rejected."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def startup_left_s(self) -> int:
        """Seconds until the first replica is expected, at least 1."""
        return max(1, math.ceil(self.dispatcher.startup_left_s(self._clock())))

    @property
    def max_model_len(self) -> int | None:
        """The context length in tokens; None until a replica has been up."""
        return self.replicas[0].info.max_model_len if self.replicas else None

    # Requests

    async def admit(self, request: Request) -> tuple[Reservation, Replica]:
        """Waits until the request is placed on a replica. Raises ApiError if it is rejected, at
        once or after waiting."""
        now_s = self._clock()
        reservation = self.dispatcher.submit(request, now_s)
        if isinstance(reservation, Rejection):
            raise errors.rejected(self.model.model_id, reservation)
        if reservation.state is State.PLACED:
            self._poll(now_s)
            return reservation, self._by_id[reservation.replica_id]
        future = self._waiting[reservation] = asyncio.get_running_loop().create_future()
        self._poll(now_s)
        try:
            replica = await future
        except asyncio.CancelledError:
            self._waiting.pop(reservation, None)
            now_s = self._clock()
            self.dispatcher.withdraw(reservation, now_s)
            self._poll(now_s)
            raise
        if replica is None:
            assert reservation.rejection is not None
            raise errors.rejected(self.model.model_id, reservation.rejection)
        return reservation, replica

    async def admit_suspect(
        self, digest: bytes, request: Request
    ) -> tuple[Reservation, Replica] | None:
        """Waits for the turn of a suspect of an engine's death, and places it on the replica that
        it is tried on; see `Trials.turn`."""
        while (replica := await self.trials.turn(digest, request.timeout_s)) is not None:
            if self._by_id.get(replica.info.replica_id) is replica:
                now_s = self._clock()
                reservation = self.dispatcher.place(request, replica.info.replica_id, now_s)
                return reservation, replica
            self.trials.ended(digest)
        return None

    def first_token(self, reservation: Reservation) -> None:
        """Records that the first bytes of the answer have arrived."""
        self.dispatcher.first_token(reservation, self._clock())

    def move(self, reservation: Reservation) -> Replica | None:
        """Moves a request whose replica failed or drains to another one; None if none is left to
        try."""
        now_s = self._clock()
        if not self.dispatcher.move(reservation, now_s):
            return None
        self._poll(now_s)
        return self._by_id[reservation.replica_id]

    def can_move(self, reservation: Reservation) -> bool:
        """Whether there is a replica that `move` could move it to."""
        return self.dispatcher.can_move(reservation)

    def release(
        self,
        reservation: Reservation,
        outcome: Outcome,
        output_tokens: int = 0,
        spent: Spent | None = None,
    ) -> None:
        """Ends a request. `output_tokens` is the length of an answer that is complete; `spent` is
        what the engine has processed, if it said so."""
        now_s = self._clock()
        self.dispatcher.release(reservation, outcome, now_s, output_tokens, spent)
        self._poll(now_s)

    def count(self, adapter: Adapter, record: RequestRecord) -> None:
        """Counts a request for an adapter that has ended, by which its canary is judged."""
        assert self.adapters is not None
        self.adapters.canaries.ended(adapter, is_failure(record), ttft_s(record))

    # Replicas

    @property
    def leaving(self) -> int:
        """The number of replicas that take no requests because they will soon be gone."""
        available = {load.replica_id for load in self.dispatcher.replicas}
        return sum(
            replica.health.leaving and replica.info.replica_id not in available
            for replica in self.replicas
        )

    def update(self, infos: Iterable[ReplicaInfo]) -> None:
        """Sets the replicas that are up; those that remain keep their load and connections."""
        infos = list(infos)
        for replica in self.replicas:
            if replica.info not in infos:
                replica.close()
        known = {replica.info: replica for replica in self.replicas}
        now_s = self._clock()
        ejected = [info.replica_id for info, one in known.items() if one.health.ejected]
        leaving = [info.replica_id for info, one in known.items() if one.health.leaving]
        self.trials.update({info.replica_id: info.build for info in infos})
        if self.trials.quarantined is not None:
            ejected.append(self.trials.quarantined)
        if {info.replica_id for info in infos}.difference(ejected, leaving):
            ejected += leaving
        self.dispatcher.update({i.replica_id: i.capacity for i in infos}, now_s, ejected)
        self.replicas = [known.get(info) or self._new(info) for info in infos]
        self._by_id = {replica.info.replica_id: replica for replica in self.replicas}
        self._poll(now_s)

    def refresh(self) -> None:
        """Places waiting requests after the health of a replica has changed."""
        self.update([replica.info for replica in self.replicas])

    def _new(self, info: ReplicaInfo) -> Replica:
        load = self.dispatcher.fleet.loads[info.replica_id]
        return Replica(
            info,
            load,
            self._connect_timeout_s,
            self._check,
            self.refresh,
            takes_adapters=self.adapters is not None,
        )

    async def follow_adapters(self) -> None:
        """Follows the declared adapters, and which of them each replica has loaded, until
        cancelled."""
        assert self.adapters is not None
        while True:
            await asyncio.to_thread(self.adapters.look)
            await asyncio.gather(
                *(one.adapters.refresh() for one in self.replicas if one.adapters is not None)
            )
            await asyncio.sleep(PERIOD_S)

    # Other routers

    def publish_demand(self) -> None:
        """See `RouterSync.publish_demand`."""
        now_s = self._clock()
        self.dispatcher.sync.publish_demand(now_s)
        self._poll(now_s)

    def publish(self, publish: Callable[[Message | PoisonMessage], object] | None) -> None:
        """Has it called with each message for the other routers, in order. None: there are
        none."""
        self.dispatcher.sync.publish = self.trials.guard.publish = publish

    def snapshot(self) -> list[Message | PoisonMessage]:
        """Returns the messages that a router needs first when it subscribes."""
        return [*self.dispatcher.sync.snapshot(), *self.trials.guard.snapshot(self._clock())]

    def receive(self, router_id: str, messages: Sequence[Message | PoisonMessage]) -> None:
        """Applies what another router published, in its order."""
        now_s = self._clock()
        bookings: list[Message] = []
        for message in messages:
            if isinstance(message, PoisonMessage):
                self.trials.guard.receive(router_id, message, now_s)
            else:
                bookings.append(message)
        if len(bookings) < len(messages):
            self.trials.poll()
        self.dispatcher.sync.receive(router_id, bookings, now_s)
        self._poll(now_s)

    def forget(self, router_id: str) -> None:
        """Forgets a router that is gone, and its requests."""
        now_s = self._clock()
        self.dispatcher.sync.forget(router_id, now_s)
        self.trials.forget(router_id)
        self._poll(now_s)

    def report(self) -> Report:
        """Returns the data that autoscaling decides by. Suspects that wait need a replica, too."""
        report = self.dispatcher.report()
        waiting = report.waiting_requests + self.trials.waiting
        return replace(report, waiting_requests=waiting)

    def _poll(self, now_s: float) -> None:
        """Resolves the futures of requests that were placed or rejected, and sets the timer for the
        next."""
        for reservation in self.dispatcher.poll(now_s):
            future = self._waiting.pop(reservation, None)
            # None: placed at once. Done: the client left, and its task has not run yet.
            if future is not None and not future.done():
                placed = reservation.state is State.PLACED
                future.set_result(self._by_id[reservation.replica_id] if placed else None)
        due_s = self.dispatcher.next_due_s()
        if due_s == math.inf:
            return
        loop = asyncio.get_running_loop()
        in_s = max(0.001, due_s - now_s)
        if self._timer is not None:
            if self._timer.when() <= loop.time() + in_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(in_s, self._wake_up)

    def _wake_up(self) -> None:
        # May be slightly early, as the loop's clock is coarse; the timer is then set again.
        self._timer = None
        self._poll(self._clock())

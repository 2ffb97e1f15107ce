"""What the routers of a model tell each other, and how they divide its replicas by it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set

from serving.dispatch.adapter_slots import AdapterSlots
from serving.dispatch.charges import Charges
from serving.dispatch.fair_share import FairShare
from serving.dispatch.headroom import Headroom
from serving.dispatch.messages import (
    BookingMessage,
    Cached,
    FirstToken,
    Message,
    Placed,
    Released,
    RetryMessage,
    RouterDemand,
    Service,
    Turns,
)
from serving.dispatch.other_routers import OtherRouters
from serving.dispatch.quota import (
    DEMAND_PERIOD_S,
    divide_by_tenants,
    expected_parts,
    quotas,
)
from serving.dispatch.request_queue import RequestQueue
from serving.dispatch.reservation import Reservation
from serving.dispatch.retries import RetryReservations
from serving.dispatch.service_rate import ServiceRate
from serving.placement import Fleet

_NOTHING = 1e-9
"""Parts of a replica, above the rounding of sums."""


class RouterSync:
    """Publishes what the requests of a router hold and wait for, and applies what others publish.
    So all routers have the same bookings on the replicas, virtual times of tenants and retry
    reservations, and each knows its quota."""

    def __init__(
        self,
        fleet: Fleet,
        headroom: Headroom,
        queue: RequestQueue,
        service_rate: ServiceRate,
        fair_share: FairShare,
        charges: Charges,
        slots: AdapterSlots,
    ) -> None:
        self.publish: Callable[[Message], object] | None = None
        """Called with each message for the other routers, in order. None: there are none."""
        self.retries = RetryReservations(self._tell)
        self.quota: float | None = None
        """The parts of a replica that this router will come to have booked; None: unlimited, as it
        is alone."""
        self.tenants: Set[str] = set()
        """The tenants that hold or want a part of the replicas through other routers."""
        self.has_changed = False
        """Whether anything was received or divided since the dispatcher has set this to False."""
        self._fleet = fleet
        self._headroom = headroom
        self._queue = queue
        self._service_rate = service_rate
        self._fair_share = fair_share
        self._charges = charges
        self._slots = slots
        self._other_routers = OtherRouters(fleet, fair_share)
        self._placed: dict[int, Reservation] = {}
        """Placed reservations by number."""
        self._quotas: Mapping[str, float] = {}
        """The parts of a replica that this router may have booked over all replicas, by tenant;
        unlimited for those left out."""

    # This router

    def placed(self, reservation: Reservation, service: Service | None) -> None:
        """Tells that a request was booked on a replica, and what its tenant was charged."""
        self._placed[reservation.number] = reservation
        self._tell(_placed(reservation, service))

    def first_token(self, reservation: Reservation) -> None:
        self._tell(FirstToken(reservation.number))

    def released(
        self, reservation: Reservation, output_tokens: int, correction: Service | None
    ) -> None:
        """Tells that a request has left its replica."""
        del self._placed[reservation.number]
        self._tell(Released(reservation.number, output_tokens, correction))

    def gave_turns(self) -> None:
        """Tells which adapters wait for which slots."""
        self._tell(self._slots.turns())

    def snapshot(self) -> list[Message]:
        """Returns the messages that a router needs first when it subscribes."""
        messages: list[Message] = []
        for reservation in self._placed.values():
            messages.append(_placed(reservation, _already_charged(reservation.service)))
            if reservation.booking is not None and reservation.booking.has_first_token:
                messages.append(FirstToken(reservation.number))
        if (turns := self._slots.turns()).turns:
            messages.append(turns)
        return messages

    def cached(self) -> Iterator[Cached]:
        """Yields the messages that a router needs before the snapshot if it has just begun.
        Replicas may come and go meanwhile."""
        for replica_id in list(self._fleet.loads):
            if replica_id in self._fleet.loads:
                yield Cached(replica_id, self._fleet.cached_blocks(replica_id))

    # Other routers

    def receive(self, router_id: str, messages: Iterable[Message], now_s: float) -> None:
        """Applies what another router published, in its order."""
        for message in messages:
            if isinstance(message, BookingMessage):
                self._other_routers.book(router_id, message, now_s)
            elif isinstance(message, RetryMessage):
                self.retries.receive(message, now_s)
            elif isinstance(message, Cached):
                self._fleet.restore(message.replica_id, message.blocks)
            elif isinstance(message, Turns):
                self._slots.receive(router_id, message)
            else:
                self._other_routers.note_demand(router_id, message, now_s)
        self.has_changed = True

    def forget(self, router_id: str, now_s: float) -> None:
        """Forgets a router that is gone, and its requests."""
        self._other_routers.forget(router_id, now_s)
        self._slots.forget(router_id)
        self.has_changed = True

    def draining(self) -> Collection[str]:
        """Returns the removed replicas that are still finishing requests."""
        own = (reservation.booking for reservation in self._placed.values())
        bookings = [*own, *self._other_routers.bookings()]
        return {one.load.replica_id for one in bookings if one} - self._fleet.loads.keys()

    # The division

    def publish_demand(self, now_s: float) -> None:
        """Publishes what this router's requests hold and wait for, and computes its quota from the
        others' demands. Due every `DEMAND_PERIOD_S`."""
        replicas = len(self._headroom.replicas)
        waiting = self._queue.share_ahead(0) + self.retries.expected_share(0)
        priorities = self._queue.priorities() if replicas else {}
        backlogs = self._queue.demands(), self.retries.demands()
        tenants = self._charges.demands(priorities, *backlogs)
        own = RouterDemand(self._service_rate.booked, waiting, tenants)
        others = self._other_routers.demands(now_s)
        demands = [own, *others]
        self.tenants = {name for demand in others for name in demand.tenants}
        weights = {name: of.weight for one in demands for name, of in one.tenants.items()}
        lead_ms = 1000 * DEMAND_PERIOD_S * replicas / sum(weights.values(), _NOTHING)
        self._fair_share.meet(self._other_routers.waiting(now_s), priorities, lead_ms)
        parts = divide_by_tenants(replicas, demands)
        if parts is None:
            parts = [one.booked + one.waiting for one in demands]
        self._service_rate.others_demand = sum(parts[1:])
        quota, self._quotas = None, {}
        if others:
            used = self._headroom.used
            quota = expected_parts(demands, replicas, used)[0]
            self._quotas = quotas(demands, replicas, used)
        if quota != self.quota:
            self.quota = quota
            self.divide(now_s)
        self._tell(own)

    def divide(self, now_s: float) -> None:
        """Adapts the service rate to the quota and the replicas of the headroom."""
        replicas = len(self._headroom.replicas)
        self._service_rate.set_capacity(self.quota or replicas or 1, now_s)
        self._service_rate.replicas = replicas
        self.has_changed = True

    def is_beyond_quota(self, reservation: Reservation) -> bool:
        """Whether this router would have more booked than its quota with this reservation, and has
        something booked."""
        quota = self._quotas.get(reservation.request.tenant)
        if quota is None:
            return False
        booked = self._booked(reservation.request.tenant)
        return booked > _NOTHING and booked + reservation.share > quota

    def _booked(self, tenant: str) -> float:
        """Returns the parts of a replica that a tenant's requests hold, or those of no tenant."""
        of_tenants = self._charges.booked
        if tenant:
            return of_tenants[tenant].share if tenant in of_tenants else 0.0
        return self._service_rate.booked - sum(share for share, _ in of_tenants.values())

    def _tell(self, message: Message) -> None:
        if self.publish is not None:
            self.publish(message)


def _already_charged(service: Service | None) -> Service | None:
    """Returns what a router that has just subscribed, and may know the charge, needs of it."""
    if service is None:
        return None
    end_ms = (service.start_ms or 0.0) + service.virtual_ms
    return Service(service.tenant, service.priority, 0.0, end_ms)


def _placed(reservation: Reservation, service: Service | None) -> Placed:
    work = reservation.request.work
    return Placed(
        reservation.number,
        reservation.replica_id,
        work.prefix.hashes,
        work.prefix.ends_tokens,
        work.prefix.answer,
        work.prompt_tokens,
        work.output_tokens,
        reservation.cached_tokens,
        work.streamed,
        work.background,
        service,
        work.adapter,
    )

"""The life of a model's requests in one router."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from serving.dispatch.adapter_slots import AdapterSlots
from serving.dispatch.admission_control import AdmissionControl, Limits
from serving.dispatch.background import Background
from serving.dispatch.charges import Charges
from serving.dispatch.expected_output import ExpectedOutput
from serving.dispatch.fair_share import FairShare
from serving.dispatch.headroom import Headroom
from serving.dispatch.messages import Service
from serving.dispatch.offered_load import OfferedLoad
from serving.dispatch.request import Request
from serving.dispatch.request_queue import RequestQueue
from serving.dispatch.reservation import Outcome, Reason, Rejection, Reservation, Spent, State
from serving.dispatch.router_sync import RouterSync
from serving.dispatch.scheduler import Scheduler
from serving.dispatch.service_rate import ServiceRate
from serving.dispatch.working_set import WorkingSet
from serving.placement import Capacity, Fleet, Policy, Rates, ReplicaLoad, Work
from serving.scaling.report import Report

_NO_LIMITS = Limits(max_waiting=1 << 62, max_wait_s=math.inf, startup_s=0.0)

_SHARED_PERIOD_S = 0.05
"""How often the queue is looked at while several tenants want the replicas, as no event says that
an engine has read a prompt whose answer is not streamed."""


class Dispatcher:
    """Decides which requests are placed on which replicas, which wait, and which are rejected.

    `submit` begins a request's life as a `Reservation`; `poll` returns the waiting ones that were
    decided, and is due after each call that changes something and at `next_due_s`. Once it is
    placed, `first_token`, `move` and `release` follow it to its end; `withdraw` ends one whose
    client left before it was sent. All times are from one monotonic clock and never decrease.
    """

    def __init__(
        self,
        policy: Policy,
        capacity: Capacity,
        limits: Limits | None,
        *,
        now_s: float,
        first_rates: Callable[[], Rates] = Rates,
        max_itl_ms: float = math.inf,
        waits_for_choice: bool = True,
        background_scales: bool = False,
        max_loras: int = 0,
    ) -> None:
        """`capacity` and `first_rates` describe a replica before one is up. Without `limits`
        requests are placed at once and queue in the engines. `max_itl_ms` bounds what a replica
        decodes at a time, by its inter-token latency. With `waits_for_choice` a waiting request
        waits for the replica that the policy chooses. With `background_scales` the report counts
        background work as it does other requests. `max_loras` is how many adapters run on a replica
        at a time."""
        self.expected_output = ExpectedOutput()
        self.fleet = Fleet(policy, first_rates)
        self._working_set = WorkingSet(
            self.fleet.sessions, max_waiting=0 if limits is None else limits.max_waiting
        )
        self.fair_share = FairShare()
        self._charges = Charges(self.fair_share, first_rates())
        self._first_rates = first_rates
        self._headroom = Headroom(capacity, max_itl_ms, is_bounded=limits is not None)
        self._queue = RequestQueue(self.fair_share)
        self._service_rate = ServiceRate(now_s)
        self._slots = AdapterSlots(max_loras)
        self.sync = RouterSync(
            self.fleet,
            self._headroom,
            self._queue,
            self._service_rate,
            self.fair_share,
            self._charges,
            self._slots,
        )
        self._admission = AdmissionControl(
            limits or _NO_LIMITS,
            self._queue,
            self._headroom,
            self._service_rate,
            self.fair_share,
            self.sync.retries,
            now_s,
        )
        self._has_adapters = max_loras > 0
        self._scheduler = Scheduler(
            self._queue,
            self._headroom,
            self._slots,
            self.sync,
            self._choice if waits_for_choice else None,
        )
        self._background = Background(self._headroom, self._slots)
        self._offered_load = OfferedLoad(
            self.fleet,
            self._headroom,
            self._service_rate,
            self.sync,
            first_rates().prefill_tokens_per_s,
            with_background=background_scales,
        )
        self._changed: list[Reservation] = []
        """Reservations placed or rejected since the last `poll`."""
        self._settled_at_s = -math.inf
        """The time since which nothing has happened."""

    # A request

    def submit(self, request: Request, now_s: float) -> Reservation | Rejection:
        """Returns a reservation, waiting or placed, or the reason for rejection. Background work is
        never rejected: it waits for as long as it takes."""
        if request.work.background:
            reservation = self._admission.unbounded(request, now_s)
            self._background.waiting[reservation] = None
            self._settle(now_s)
            if reservation.state is State.WAITING:
                self._offered_load.wait(reservation)
            return reservation
        service_s = 0.0 if request.timeout_s is None else self._service_s(request.work)
        retry = self._admission.retries.find(request.key, now_s)
        outcome = self._admission.admit(request, service_s, retry, now_s)
        if isinstance(outcome, Rejection):
            if retry is None:
                self._offered_load.prefill_tokens += self.fleet.uncached_tokens(request.work)
            return outcome
        if len(self._queue) >= self._admission.limits.max_waiting:
            last = self._queue.last()
            assert last is not None
            self._reject(last, "queue_full", now_s)
        self._admission.enter(outcome, retry, now_s)
        outcome.is_counted = retry is not None
        if not self._working_set.holds(outcome, self._headroom.replicas, now_s):
            if self._place_at_once(outcome, now_s):
                return outcome
            self._queue.add(outcome)
        self._settle(now_s)
        if outcome.state is State.WAITING:
            self._offered_load.wait(outcome)
        return outcome

    def place(self, request: Request, replica_id: str, now_s: float) -> Reservation:
        """Places a request on that replica at once, with or without headroom and whether or not it
        takes requests. Raises KeyError if it is not up."""
        load = self.fleet.loads[replica_id]
        reservation = self._admission.unbounded(request, now_s)
        self._place(reservation, [load], now_s)
        if not request.work.background:
            self._service_rate.book(reservation.share, now_s)
        self._settled_at_s = -math.inf
        return reservation

    def poll(self, now_s: float) -> list[Reservation]:
        """Returns the reservations that were placed or rejected since the last call, in that
        order."""
        if now_s > self._settled_at_s or self.sync.has_changed:
            self._settle(now_s)
        changed, self._changed = self._changed, []
        return changed

    def next_due_s(self) -> float:
        """The time at which `poll` has its next result without further calls; infinite: never."""
        due_s = min(self._background.due_s, self._working_set.due_s)
        if (first := self._queue.next_to_expire()) is not None:
            due_s = min(due_s, first.expires_at_s, self._slots.due_s, self._scheduler.due_s)
            if self._headroom.is_shared:
                due_s = min(due_s, self._settled_at_s + _SHARED_PERIOD_S)
        return due_s

    def first_token(self, reservation: Reservation, now_s: float) -> None:
        """Records that the first bytes of the answer have arrived."""
        assert reservation.booking is not None
        self.fleet.first_token(reservation.booking, now_s)
        self.sync.first_token(reservation)

    def move(self, reservation: Reservation, now_s: float) -> bool:
        """Moves a reservation whose replica failed or drains to one that was not tried, with or
        without headroom. Returns False, and changes nothing, if there is none."""
        others = self._untried(reservation)
        if not others:
            return False
        others = list(self._slots.open_to(reservation.request.work.adapter, others)) or others
        self._end_booking(reservation, now_s)
        self._book(reservation, others, now_s)
        self._settled_at_s = -math.inf
        return True

    def can_move(self, reservation: Reservation) -> bool:
        """Whether there is a replica that `move` could move it to."""
        return bool(self._untried(reservation))

    def release(
        self,
        reservation: Reservation,
        outcome: Outcome,
        now_s: float,
        output_tokens: int = 0,
        spent: Spent | None = None,
    ) -> None:
        """Ends a placed request. `output_tokens` is the length of an answer that is complete;
        `spent` is what the engine has processed, if it said so, which the tenant is charged for."""
        correction = self._charges.end(reservation, outcome, output_tokens, spent)
        self._end_booking(reservation, now_s, output_tokens, correction)
        if output_tokens:
            self.expected_output.observe(output_tokens)
        if not reservation.request.work.background:
            self._service_rate.release(reservation.share, outcome is not Outcome.FAILED, now_s)
        reservation.state = State.RELEASED
        self._settled_at_s = -math.inf

    def withdraw(self, reservation: Reservation, now_s: float) -> None:
        """Ends a request whose client left before it was sent to a replica; ignored if it was
        rejected."""
        if reservation in self._background.waiting:
            del self._background.waiting[reservation]
            self._offered_load.waits_no_more(reservation)
        elif reservation in self._working_set.waiting:
            self._working_set.withdraw(reservation, now_s)
            self._offered_load.waits_no_more(reservation)
        elif reservation.state is State.WAITING:
            self._working_set.withdraw(reservation, now_s)
            self._leave_queue(reservation)
        elif reservation.state is State.PLACED:
            self.release(reservation, Outcome.FAILED, now_s)
        else:
            return
        reservation.state = State.WITHDRAWN
        self._settled_at_s = -math.inf

    # Replicas

    @property
    def replicas(self) -> Sequence[ReplicaLoad]:
        """The replicas that take requests."""
        return self._headroom.replicas

    def update(
        self, replicas: Mapping[str, Capacity], now_s: float, ejected: Collection[str] = ()
    ) -> None:
        """Sets the replicas that are up, by id; all take requests but those that are `ejected`. A
        replica that remains keeps its load; one that restarts has another id."""
        for replica_id in [one for one in self.fleet.loads if one not in replicas]:
            self.fleet.remove(replica_id)
        for replica_id, capacity in replicas.items():
            if replica_id not in self.fleet.loads:
                self.fleet.add(replica_id, capacity)
        loads = self.fleet.loads
        self._headroom.update([loads[one] for one in replicas if one not in ejected])
        self._admission.update(now_s)
        self._scheduler.update()
        self.sync.divide(now_s)

    @property
    def waiting(self) -> int:
        """The number of waiting requests."""
        return self._queue.waiting + len(self._working_set.waiting)

    def waiting_of(self, tenant: str) -> int:
        """Returns the number of a tenant's requests in the queue."""
        return self._queue.waiting_of(tenant)

    def startup_left_s(self, now_s: float) -> float:
        """Returns the seconds until the first replica is expected; 0 when one is up."""
        return self._admission.startup_left_s(now_s)

    def report(self) -> Report:
        """Returns the data that autoscaling decides by."""
        return self._offered_load.report()

    # Within

    def _place_at_once(self, reservation: Reservation, now_s: float) -> bool:
        """Places a reservation as `_settle` would if it was added to the queue, at less cost, if
        nothing waits and all replicas have headroom. Returns False, and changes nothing, if not."""
        request = reservation.request
        if self._background.waiting or self._working_set.waiting or self.sync.has_changed:
            return False
        self._headroom.is_shared = self._has_several_tenants(request.tenant)
        replicas = self._scheduler.at_once(reservation, now_s)
        if not replicas:
            return False
        if request.tenant:
            self.fair_share.wake(request.tenant, request.priority, ())
        self._settled_at_s = now_s
        self._place(reservation, replicas, now_s)
        self._service_rate.book(reservation.share, now_s)
        self._service_rate.is_full = False
        self._background.due_s = math.inf
        return True

    def _settle(self, now_s: float) -> None:
        """Rejects requests that waited too long and hands out all available headroom."""
        self._settled_at_s = now_s
        self.sync.has_changed = False
        queue = self._queue
        self._headroom.is_shared = self._has_several_tenants()
        while (first := queue.next_to_expire()) is not None and first.expires_at_s <= now_s:
            self._reject(first, "wait_too_long", now_s)
        while (resumed := self._working_set.next(self._headroom.replicas, now_s)) is not None:
            self._admission.prolong(resumed, now_s)
            queue.add(resumed)
        self._give_turns(now_s)
        while (turn := self._scheduler.next(now_s)) is not None:
            reservation, candidates = turn
            self._leave_queue(reservation)
            self._place(reservation, candidates, now_s)
            self._service_rate.book(reservation.share, now_s)
        self._give_turns(now_s)
        self._service_rate.is_full = queue.waiting > 0
        self._background.due_s = math.inf
        while not queue.waiting and (turn := self._background.next(now_s)) is not None:
            reservation, candidates = turn
            del self._background.waiting[reservation]
            self._offered_load.waits_no_more(reservation)
            self._place(reservation, candidates, now_s)

    def _give_turns(self, now_s: float) -> None:
        """Ends what adapters no longer wait for, and has others yield to those that do."""
        if self._has_adapters:
            firsts = self._queue.first_of_adapters()
            if self._slots.give_turns(firsts, self._headroom.replicas, now_s):
                self.sync.gave_turns()

    def _place(
        self, reservation: Reservation, candidates: Sequence[ReplicaLoad], now_s: float
    ) -> None:
        self._book(reservation, candidates, now_s)
        self._offered_load.place(reservation)
        reservation.state = State.PLACED
        self._changed.append(reservation)

    def _has_several_tenants(self, arrived: str | None = None) -> bool:
        """Whether several tenants hold or want a part of the replicas, one that has `arrived` among
        them."""
        names = {*self._charges.booked, *self._queue.tenants, *self.sync.tenants}
        if arrived is not None:
            names.add(arrived)
        return len(names) > 1

    def _untried(self, reservation: Reservation) -> list[ReplicaLoad]:
        """Returns the replicas that take requests and that the reservation was not on."""
        tried = reservation.tried
        return [load for load in self._headroom.replicas if load.replica_id not in tried]

    def _leave_queue(self, reservation: Reservation) -> None:
        self._queue.remove(reservation)
        self._offered_load.waits_no_more(reservation)

    def _reject(self, reservation: Reservation, reason: Reason, now_s: float) -> None:
        self._working_set.withdraw(reservation, now_s)
        self._leave_queue(reservation)
        reservation.rejection = self._admission.dismiss(reservation, reason, now_s)
        reservation.state = State.REJECTED
        self._changed.append(reservation)

    def _book(
        self, reservation: Reservation, candidates: Sequence[ReplicaLoad], now_s: float
    ) -> None:
        work = reservation.request.work
        if (room := reservation.room) is not None and room in candidates:
            candidates = [room]
        load, cached_tokens = self.fleet.choose(work, candidates, now_s)
        reservation.booking = self.fleet.book(work, load, cached_tokens, now_s)
        reservation.cached_tokens = cached_tokens
        reservation.tried.append(load.replica_id)
        self.sync.placed(reservation, self._charges.place(reservation))

    def _end_booking(
        self,
        reservation: Reservation,
        now_s: float,
        output_tokens: int = 0,
        correction: Service | None = None,
    ) -> None:
        assert reservation.booking is not None
        self.fleet.end(reservation.booking, now_s, output_tokens)
        reservation.booking = None
        self.sync.released(reservation, output_tokens, correction)

    def _choice(self, work: Work, replicas: Sequence[ReplicaLoad], now_s: float) -> ReplicaLoad:
        return self.fleet.choose(work, replicas, now_s)[0]

    def _service_s(self, work: Work) -> float:
        """Returns the least time that a replica needs until an answer begins."""
        load = next(iter(self.fleet.loads.values()), None)
        rates = self._first_rates() if load is None else load.rates
        return rates.first_token_ms(self.fleet.uncached_tokens(work)) / 1000

"""Decides whether a request may wait for headroom, or is rejected and told when to retry."""

import math
from dataclasses import dataclass
from itertools import count

from msgspec.structs import replace

from serving.dispatch.arrival_rate import ArrivalRate
from serving.dispatch.fair_share import Backlog, FairShare, together
from serving.dispatch.headroom import Headroom
from serving.dispatch.request import Request
from serving.dispatch.request_queue import RequestQueue
from serving.dispatch.reservation import Reason, Rejection, Reservation
from serving.dispatch.retries import RetryReservation, RetryReservations
from serving.dispatch.service_rate import ServiceRate

_ADMITTED_WAIT = 0.75
"""Part of the longest wait up to which new requests are admitted, as estimates err."""
_RETRIES_WAIT = 0.25
"""Part of the longest wait that holders of retry reservations are to spend in the queue, so that it
does not run empty while they are on their way."""
_IDLE_WAIT = 0.125
"""Part of the longest wait below which the queue admits anyone, as holders of retry reservations
may not come."""
_LEAST_LEFT = 0.1
"""Part of the service rate that every priority is assumed to get, whatever arrives above it."""
_LONGEST_RETRY_S = 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the queue, in requests and in time."""

    max_waiting: int
    max_wait_s: float
    startup_s: float
    """How long the first replica is expected to take while none is up; added to the longest
    wait."""


class AdmissionControl:
    """Estimates waits from the queue, the service rate and the retry reservations issued."""

    def __init__(
        self,
        limits: Limits,
        queue: RequestQueue,
        headroom: Headroom,
        service_rate: ServiceRate,
        fair_share: FairShare,
        retries: RetryReservations,
        now_s: float,
    ) -> None:
        self.limits = limits
        self.retries = retries
        self._queue = queue
        self._headroom = headroom
        self._service_rate = service_rate
        self._fair_share = fair_share
        self._arrival_rate = ArrivalRate(now_s)
        self._numbers = count(1)
        self._down_since_s: float | None = now_s

    def update(self, now_s: float) -> None:
        """Updates the estimates after the replicas of the headroom have changed."""
        if self._headroom.replicas:
            self._down_since_s = None
        elif self._down_since_s is None:
            self._down_since_s = now_s

    def admit(
        self, request: Request, service_s: float, retry: RetryReservation | None, now_s: float
    ) -> Reservation | Rejection:
        """Returns a reservation to `enter` the queue, where it displaces the last one if the queue
        is full, or the reason for rejection. `service_s` is the least time that the request spends
        on a replica, if it has a timeout; `retry` is the retry reservation that it redeems."""
        share = self._headroom.capacity.share(request.kv_tokens)
        number = retry.number if retry is not None and retry.number else next(self._numbers)
        expires_at_s = self._expires_at_s(request, service_s, now_s)
        reservation = Reservation(request, number, share, service_s, now_s, expires_at_s)
        if retry is None:
            admitted, wait_s = self._admits_new(request, share, now_s)
        else:
            admitted, wait_s = self._admits_returning(request, retry, share, now_s)
        reason: Reason = "wait_too_long"
        if request.timeout_s is not None and wait_s + service_s > request.timeout_s:
            admitted, reason = False, "deadline_unreachable"
        elif len(self._queue) >= self.limits.max_waiting:
            reason = "queue_full"
            admitted = admitted and self._queue.makes_way(request, share)
        if not admitted:
            return self._reject(reservation, reason, wait_s, now_s, retry)
        return reservation

    def unbounded(self, request: Request, now_s: float) -> Reservation:
        """Returns a reservation for background work, which waits outside the queue."""
        share = self._headroom.capacity.share(request.kv_tokens)
        return Reservation(request, next(self._numbers), share, 0.0, now_s, math.inf)

    def enter(self, reservation: Reservation, retry: RetryReservation | None, now_s: float) -> None:
        """Puts an admitted reservation into the queue."""
        if retry is not None:
            self.retries.redeem(retry)
        else:
            self._arrival_rate.add(reservation.request.priority, reservation.share, now_s)

    def prolong(self, reservation: Reservation, now_s: float) -> None:
        """Lets a reservation that enters the queue after another wait stay there for as long as one
        that has just arrived."""
        request, service_s = reservation.request, reservation.service_s
        waited_s = now_s - reservation.arrived_at_s
        if request.timeout_s is not None:
            request = replace(request, timeout_s=request.timeout_s - waited_s)
        reservation.expires_at_s = self._expires_at_s(request, service_s, now_s)

    def dismiss(self, reservation: Reservation, reason: Reason, now_s: float) -> Rejection:
        """Rejects a reservation that has left the queue because it waited too long."""
        request, service_s = reservation.request, reservation.service_s
        if request.timeout_s is not None:
            left_s = request.timeout_s - (now_s - reservation.arrived_at_s)
            if left_s <= service_s:
                reason = "deadline_unreachable"
        wait_s, _ = self._waits_s(request, request.priority, reservation.share, now_s)
        wait_s += self.startup_left_s(now_s)
        return self._reject(reservation, reason, wait_s, now_s, None, reservation.number)

    def startup_left_s(self, now_s: float) -> float:
        """Returns the seconds until the first replica is expected; 0 when one is up. One that is
        late is expected to take as long again as it is late, up to a whole start-up."""
        if self._down_since_s is None:
            return 0.0
        startup_s = self.limits.startup_s
        left_s = startup_s - (now_s - self._down_since_s)
        return left_s if left_s > 0 else min(max(-left_s, 1.0), startup_s)

    # Estimating

    def _admits_new(self, request: Request, share: float, now_s: float) -> tuple[bool, float]:
        """Returns whether the queue admits a request without a retry reservation, and its expected
        wait."""
        limits, waiting = self.limits, len(self._queue)
        queue_s, all_s = self._waits_s(request, request.priority, share, now_s)
        startup_s = self.startup_left_s(now_s)
        idle = queue_s <= limits.max_wait_s * _IDLE_WAIT and waiting < limits.max_waiting
        crowded = waiting + self.retries.expected_of(request.tenant) >= limits.max_waiting
        admitted = idle or (
            all_s <= limits.max_wait_s * _ADMITTED_WAIT
            and (not crowded or self._queue.makes_way(request, share))
        )
        return admitted, startup_s + (queue_s if idle else all_s)

    def _admits_returning(
        self, request: Request, retry: RetryReservation, share: float, now_s: float
    ) -> tuple[bool, float]:
        """Returns whether the queue admits a request that redeems a retry reservation, and its
        expected wait. One that comes too early may use idle capacity, else it is told the same time
        again."""
        queue_s, _ = self._waits_s(request, retry.priority, share, now_s)
        is_early = retry.retry_at_s > now_s
        longest_s = self.limits.max_wait_s * (_IDLE_WAIT if is_early else 1)
        return queue_s <= longest_s, self.startup_left_s(now_s) + queue_s

    def _waits_s(
        self, request: Request, priority: int, share: float, now_s: float
    ) -> tuple[float, float]:
        """Returns the expected wait at this priority once a replica is up: behind the queue alone,
        and behind the queue and the holders of retry reservations. Of other tenants' requests, only
        those count that are served before by the tenants' shares."""
        ahead = self._queue.share_ahead(priority)
        expected = self.retries.expected_share(priority)
        if ahead <= 0 and self._has_headroom(share, now_s):
            if not expected:
                return 0.0, 0.0
            share = 0.0
        rate = self._service_rate.per_s_with(ahead + share)
        rate = max(rate - self._arrival_rate.above_per_s(priority, now_s), rate * _LEAST_LEFT)
        if request.tenant and ahead + expected > 0:
            ahead, expected = self._ahead_by_share(request, priority, share, ahead, expected)
        return (ahead + share) / rate, (ahead + share + expected) / rate

    def _ahead_by_share(
        self, request: Request, priority: int, share: float, ahead: float, expected: float
    ) -> tuple[float, float]:
        """Returns how much of `ahead` and `expected`, which is all work in the queue and of the
        holders of retry reservations, is before a request by the tenants' shares."""
        waiting, returning = self._queue.backlogs(priority), self.retries.backlogs(priority)
        if waiting.keys() | returning.keys() <= {request.tenant}:
            return ahead, expected
        rate = self._service_rate
        shares_per_ms = rate.per_s / rate.capacity / 1000

        def before(backlogs: dict[str, Backlog]) -> float:
            own = backlogs.pop(request.tenant, None)
            turn = Backlog(share + (own.share if own else 0.0), request.weight)
            others = sum(other.share for other in backlogs.values())
            return others - self._fair_share.share_ahead(
                request.tenant, priority, turn, backlogs, shares_per_ms
            )

        all_ahead = ahead + expected
        if returning:
            all_ahead -= before(together(waiting, returning))
        ahead -= before(waiting)
        return ahead, max(0.0, all_ahead - ahead) if returning else expected

    def _has_headroom(self, share: float, now_s: float) -> bool:
        return self._headroom.has(share * self._headroom.capacity.kv_cache_tokens, now_s)

    def _expires_at_s(self, request: Request, service_s: float, now_s: float) -> float:
        longest_s = self.limits.max_wait_s + self.startup_left_s(now_s)
        if request.timeout_s is not None:
            longest_s = min(longest_s, request.timeout_s - service_s)
        return now_s + longest_s

    # Rejecting

    def _reject(
        self,
        reservation: Reservation,
        reason: Reason,
        wait_s: float,
        now_s: float,
        retry: RetryReservation | None,
        number: int | None = None,
    ) -> Rejection:
        """`retry` is the retry reservation redeemed, `number` that which a reservation keeps as it
        has waited."""
        request, service_s = reservation.request, reservation.service_s
        if request.timeout_s is not None and service_s > request.timeout_s:
            return Rejection("deadline_too_short", wait_s, None)
        if not self._headroom.replicas:
            reason = "no_replica"
        if retry is not None and retry.retry_at_s > now_s:
            return Rejection(reason, wait_s, math.ceil(retry.retry_at_s - now_s))
        reserve_s = min(self.limits.max_wait_s, wait_s) * _RETRIES_WAIT
        if request.timeout_s is not None:
            reserve_s = min(reserve_s, (request.timeout_s - service_s) / 2)
        retry_after_s = min(max(1, math.ceil(wait_s - reserve_s - 1e-6)), _LONGEST_RETRY_S)
        if retry is not None:
            self.retries.redeem(retry)
        if request.key is not None:
            retry_at_s = now_s + retry_after_s
            expires_at_s = retry_at_s + retry_after_s
            issued = RetryReservation(
                request.key,
                number,
                request.priority,
                reservation.share,
                retry_at_s,
                expires_at_s,
                request.tenant,
                request.weight,
            )
            self.retries.issue(issued, now_s)
        return Rejection(reason, wait_s, retry_after_s)

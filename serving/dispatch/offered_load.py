"""The work that arrived at a router for one model, for autoscaling."""

from serving.dispatch.headroom import Headroom
from serving.dispatch.reservation import Reservation
from serving.dispatch.router_sync import RouterSync
from serving.dispatch.service_rate import ServiceRate
from serving.placement import Fleet
from serving.scaling.report import Report


class OfferedLoad:
    """Counts arrived work, and the part of it that waits, and reports it."""

    def __init__(
        self,
        fleet: Fleet,
        headroom: Headroom,
        service_rate: ServiceRate,
        sync: RouterSync,
        prefill_tokens_per_s: float,
        *,
        with_background: bool,
    ) -> None:
        """`prefill_tokens_per_s` is that of a replica of which nothing is learnt yet. With
        `with_background` background work is counted and reported too."""
        self._fleet = fleet
        self._headroom = headroom
        self._service_rate = service_rate
        self._sync = sync
        self._prefill_tokens_per_s = prefill_tokens_per_s
        self._with_background = with_background
        self.prefill_tokens = 0
        """Uncached prompt tokens of all requests since the beginning."""
        self.waiting_prefill_tokens = 0
        self.waiting_kv_tokens = 0
        self.waiting_requests = 0

    def place(self, reservation: Reservation) -> None:
        """Counts a request that is placed, unless it was counted as it waited."""
        if reservation.request.work.background and not self._with_background:
            return
        prefill_tokens = reservation.request.work.prompt_tokens - reservation.cached_tokens
        self._count(reservation, max(prefill_tokens, 0))

    def wait(self, reservation: Reservation) -> None:
        """Counts a request as waiting, with the tokens that would have to be prefilled for it
        now."""
        if reservation.request.work.background and not self._with_background:
            return
        prefill_tokens = self._fleet.uncached_tokens(reservation.request.work)
        self._count(reservation, prefill_tokens)
        reservation.waiting_prefill_tokens = prefill_tokens
        self._add(reservation, 1, prefill_tokens)

    def waits_no_more(self, reservation: Reservation) -> None:
        """Counts a request as placed or ended; ignored if it did not wait."""
        prefill_tokens = reservation.waiting_prefill_tokens
        if prefill_tokens is not None:
            reservation.waiting_prefill_tokens = None
            self._add(reservation, -1, prefill_tokens)

    def _count(self, reservation: Reservation, prefill_tokens: int) -> None:
        if not reservation.is_counted:
            reservation.is_counted = True
            self.prefill_tokens += prefill_tokens

    def _add(self, reservation: Reservation, sign: int, prefill_tokens: int) -> None:
        self.waiting_requests += sign
        self.waiting_kv_tokens += sign * reservation.kv_tokens
        self.waiting_prefill_tokens += sign * prefill_tokens

    def report(self) -> Report:
        """Returns the data that autoscaling decides by."""
        loads = self._fleet.loads.values()
        learnt = [load.rates.prefill_tokens_per_s for load in loads if load.rates.prefill_is_learnt]
        if learnt:
            self._prefill_tokens_per_s = sum(learnt) / len(learnt)
        running = [
            (load.requests, load.kv_tokens) if self._with_background else load.interactive
            for load in loads
        ]
        capacity, retries = self._headroom.capacity, self._sync.retries
        return Report(
            offered_prefill_tokens=self.prefill_tokens,
            waiting_prefill_tokens=self.waiting_prefill_tokens,
            waiting_kv_tokens=self.waiting_kv_tokens
            + retries.expected_share(0) * capacity.kv_cache_tokens,
            waiting_requests=self.waiting_requests + retries.expected,
            running_kv_tokens=sum(kv_tokens for _, kv_tokens in running),
            running_requests=sum(requests for requests, _ in running),
            draining=len(self._sync.draining()),
            prefill_tokens_per_s=self._prefill_tokens_per_s,
            kv_cache_tokens=capacity.kv_cache_tokens,
            max_num_seqs=capacity.max_num_seqs,
            residence_time_s=self._service_rate.residence_time_s,
        )

"""The work that arrived at a router for one model, for autoscaling."""

from serving.dispatch.reservation import Reservation


class OfferedLoad:
    """Counts arrived work, and the part of it that waits."""

    def __init__(self) -> None:
        self.prefill_tokens = 0
        """Uncached prompt tokens of all requests since the beginning."""
        self.waiting_prefill_tokens = 0
        self.waiting_kv_tokens = 0
        self.waiting_requests = 0

    def count(self, reservation: Reservation, prefill_tokens: int) -> None:
        """Counts a request that is placed or waits, once, with the tokens to prefill for it."""
        if not reservation.is_counted:
            reservation.is_counted = True
            self.prefill_tokens += prefill_tokens

    def wait(self, reservation: Reservation, prefill_tokens: int) -> None:
        """Counts a request as waiting, with the tokens that would have to be prefilled for it
        now."""
        self.count(reservation, prefill_tokens)
        reservation.waiting_prefill_tokens = prefill_tokens
        self._add(reservation, 1, prefill_tokens)

    def waits_no_more(self, reservation: Reservation) -> None:
        """Counts a request as placed or ended; ignored if it did not wait."""
        prefill_tokens = reservation.waiting_prefill_tokens
        if prefill_tokens is not None:
            reservation.waiting_prefill_tokens = None
            self._add(reservation, -1, prefill_tokens)

    def _add(self, reservation: Reservation, sign: int, prefill_tokens: int) -> None:
        self.waiting_requests += sign
        self.waiting_kv_tokens += sign * reservation.kv_tokens
        self.waiting_prefill_tokens += sign * prefill_tokens

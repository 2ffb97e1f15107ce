"""The work that came to a router, for one model, as scaling needs to know it."""

from serving.dispatch.reservation import Reservation


class OfferedLoad:
    """Counts what came, and what of it waits."""

    def __init__(self) -> None:
        self.prefill_tokens = 0
        """Uncached prompt tokens of all that came, since the beginning."""
        self.waiting_prefill_tokens = 0
        self.waiting_kv_tokens = 0
        self.waiting_requests = 0

    def count(self, reservation: Reservation, prefill_tokens: int) -> None:
        """It is placed or waits, and so many tokens have to be prefilled for it. Counts once."""
        if not reservation.is_counted:
            reservation.is_counted = True
            self.prefill_tokens += prefill_tokens

    def wait(self, reservation: Reservation, prefill_tokens: int) -> None:
        """It waits from now on. So many tokens would have to be prefilled for it now."""
        self.count(reservation, prefill_tokens)
        reservation.waiting_prefill_tokens = prefill_tokens
        self._add(reservation, 1, prefill_tokens)

    def waits_no_more(self, reservation: Reservation) -> None:
        """It is placed or over. Nothing if it did not wait."""
        prefill_tokens = reservation.waiting_prefill_tokens
        if prefill_tokens is not None:
            reservation.waiting_prefill_tokens = None
            self._add(reservation, -1, prefill_tokens)

    def _add(self, reservation: Reservation, sign: int, prefill_tokens: int) -> None:
        self.waiting_requests += sign
        self.waiting_kv_tokens += sign * reservation.kv_tokens
        self.waiting_prefill_tokens += sign * prefill_tokens

"""Charges tenants for the requests that a router places."""

from collections.abc import Mapping

from serving.dispatch.fair_share import Backlog, FairShare, together
from serving.dispatch.messages import Service, TenantDemand
from serving.dispatch.reservation import Outcome, Reservation, Spent
from serving.placement import Rates

_ANSWERS = 100
"""How many of a tenant's last answers its next ones are expected to be like."""


class Charges:
    """Charges `fair_share` by estimate when a request is placed, and by what it took when it ends.
    Requests without a tenant are not charged, nor is background work, which takes nothing from
    others.

    Engine time is that of `rates`, which are the same at all routers: what each learns from the
    requests that it sees differs by a half, and so would the shares of tenants at different
    routers."""

    def __init__(self, fair_share: FairShare, rates: Rates) -> None:
        self._fair_share = fair_share
        self._rates = rates
        self._answers: dict[str, tuple[int, float]] = {}
        """The number of each tenant's last answers, and their mean length in tokens."""
        self.booked: dict[str, Backlog] = {}
        """What each tenant's placed requests hold."""
        self._counts: dict[str, int] = {}
        """The number of them."""

    def place(self, reservation: Reservation) -> Service | None:
        """Charges for a request that is placed for the first time, and returns the charge."""
        request = reservation.request
        if not request.tenant or request.work.background or reservation.service is not None:
            return None
        prefill_tokens = max(request.work.prompt_tokens - reservation.cached_tokens, 0)
        _, output_tokens = self._answers.get(request.tenant, (0, request.work.output_tokens))
        expected_ms = self._engine_ms(reservation, Spent(prefill_tokens, output_tokens))
        self._book(reservation, 1)
        reservation.service = self._fair_share.charge(
            request.tenant, request.priority, request.weight, expected_ms
        )
        return reservation.service

    def end(
        self, reservation: Reservation, outcome: Outcome, output_tokens: int, spent: Spent | None
    ) -> Service | None:
        """Charges for what a request took, in place of what was expected, which stands if neither
        `spent` nor `output_tokens` says it. A failed one, which is sent again, costs nothing.
        Returns the difference."""
        service, booking = reservation.service, reservation.booking
        if service is None:
            return None
        assert booking is not None
        self._book(reservation, -1)
        weight = reservation.request.weight
        if spent is None and output_tokens:
            spent = Spent(booking.prefill_tokens, output_tokens)
        if outcome is Outcome.FAILED:
            took_ms = 0.0
        elif spent is None:
            took_ms = service.virtual_ms * weight
        else:
            self._learn(service.tenant, spent.output_tokens)
            took_ms = self._engine_ms(reservation, spent)
        return self._fair_share.correct(service, weight, took_ms)

    def demands(
        self, priorities: Mapping[str, int], *waiting: dict[str, Backlog]
    ) -> dict[str, TenantDemand]:
        """Returns what each tenant holds and waits for, with the highest of the `priorities` at
        which it waits for a replica."""
        demands = {}
        for name, (share, weight) in together(self.booked, *waiting).items():
            booked = self.booked[name].share if name in self.booked else 0.0
            if name:
                demands[name] = TenantDemand(weight, booked, share - booked, priorities.get(name))
        return demands

    def _book(self, reservation: Reservation, sign: int) -> None:
        tenant, weight = reservation.request.tenant, reservation.request.weight
        count = self._counts.get(tenant, 0) + sign
        if not count:
            del self._counts[tenant], self.booked[tenant]
            return
        self._counts[tenant] = count
        share = self.booked[tenant].share if tenant in self.booked else 0.0
        self.booked[tenant] = Backlog(max(0.0, share + sign * reservation.share), weight)

    def _learn(self, tenant: str, output_tokens: float) -> None:
        count, mean_tokens = self._answers.get(tenant, (0, 0.0))
        count = min(count + 1, _ANSWERS)
        self._answers[tenant] = count, mean_tokens + (output_tokens - mean_tokens) / count

    def _engine_ms(self, reservation: Reservation, spent: Spent) -> float:
        """Returns the engine time that a request takes: its prefill, and of each decode step the
        reading of its context and, of the rest, the part of the replica that it takes. Those of a
        full replica's requests add up to its time."""
        rates = self._rates
        step_ms = reservation.share * rates.step_ms(0)
        step_ms += reservation.kv_tokens * rates.step_ms_per_context_token
        return spent.prefill_tokens * rates.prefill_ms_per_token + spent.output_tokens * step_ms

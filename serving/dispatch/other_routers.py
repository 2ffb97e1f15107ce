"""The state that the other routers of a model have published."""

from collections.abc import Iterator

from serving.dispatch.fair_share import FairShare
from serving.dispatch.messages import BookingMessage, FirstToken, Placed, RouterDemand
from serving.placement import Booking, Fleet, Prefix, Work

_SILENCE_S = 5.0
"""A router that has published nothing for this long counts as ended, as do its requests."""
_LATE_S = 1.0
"""Nobody waits for the turn of a router that has published nothing for this long."""


class OtherRouters:
    """Books the other routers' requests on the replicas of `fleet`, charges their tenants, and
    keeps their demands."""

    def __init__(self, fleet: Fleet, fair_share: FairShare) -> None:
        self._fleet = fleet
        self._fair_share = fair_share
        self._bookings: dict[str, dict[int, Booking]] = {}
        """Bookings by router and by the number that it gave the request."""
        self._demands: dict[str, tuple[RouterDemand, float]] = {}
        """The last demand of each router, and when it was received."""

    def book(self, router_id: str, message: BookingMessage, now_s: float) -> None:
        """Applies the messages of a router, which must come in its order. One about an unknown
        replica or request is ignored: it predates the connection, or the replica is gone."""
        bookings = self._bookings.setdefault(router_id, {})
        if isinstance(message, Placed):
            if message.service is not None:
                self._fair_share.receive(message.service)
            load = self._fleet.loads.get(message.replica_id)
            if load is not None:
                prefix = Prefix(
                    message.hashes, message.ends_tokens, message.prompt_tokens, message.answer
                )
                work = Work(
                    prefix,
                    message.prompt_tokens,
                    message.output_tokens,
                    streamed=message.streamed,
                    adapter=message.adapter,
                    background=message.background,
                )
                # Its times arrive late, so no rates are learnt from them.
                bookings[message.number] = self._fleet.book(
                    work, load, message.cached_tokens, now_s, learn=False
                )
        elif isinstance(message, FirstToken):
            if (booking := bookings.get(message.number)) is not None:
                self._fleet.first_token(booking, now_s)
        else:
            if message.correction is not None:
                self._fair_share.receive(message.correction)
            if (booking := bookings.pop(message.number, None)) is not None:
                self._fleet.end(booking, now_s, message.output_tokens)

    def forget(self, router_id: str, now_s: float) -> None:
        """Ends the bookings of a router. Its demand counts until the silence timeout, as only its
        connection may have been lost."""
        for booking in self._bookings.pop(router_id, {}).values():
            self._fleet.end(booking, now_s)

    def bookings(self) -> Iterator[Booking]:
        for bookings in self._bookings.values():
            yield from bookings.values()

    def note_demand(self, router_id: str, demand: RouterDemand, now_s: float) -> None:
        self._demands[router_id] = demand, now_s

    def demands(self, now_s: float) -> list[RouterDemand]:
        """Returns the demands of routers that have published recently."""
        self._demands = {
            router_id: (demand, at_s)
            for router_id, (demand, at_s) in self._demands.items()
            if now_s - at_s < _SILENCE_S
        }
        return [demand for demand, _ in self._demands.values()]

    def waiting(self, now_s: float) -> dict[str, int]:
        """Returns the tenants that wait at these routers, each with the highest priority."""
        found: dict[str, int] = {}
        for demand, at_s in self._demands.values():
            for name, of in demand.tenants.items():
                if of.priority is not None and now_s - at_s < _LATE_S:
                    found[name] = max(of.priority, found.get(name, 0))
        return found

"""How several routers share the replicas of a model.

Each router has a line of its own. Where a request fits is seen from the ledger of bookings that the
routers tell each other; how much each may have booked in all is its allotment. So two routers that
see the same room free do not both fill it before the news is round, and a line is served in
proportion to its length, not to how quick its router is.
"""

from collections.abc import Collection

import msgspec

_SILENCE_S = 5.0
"""A router that was not heard of for this long counts as ended, and so do its requests."""
_LEAST_DENSITY = 1.25
"""Parts that fit on one replica: more than 1, for those that fill its memory go well with those
that fill its batch, and prompts that begin alike share blocks. Where fewer fit, the ledger of
bookings says so."""


class RouterDemand(msgspec.Struct, frozen=True, array_like=True, tag="demand"):
    """What a router tells the others, a few times a second."""

    router_id: str
    booked: float
    """Parts of a replica that its requests hold, on all replicas together."""
    waiting: float
    """The same for those that wait in its line or were told to come back."""

    def part(self, level: float) -> float:
        """What it gets if that part of what is wanted can be had; never less than it has."""
        return max(self.booked, (self.booked + self.waiting) * level)


def allot(capacity: float, demands: Collection[RouterDemand]) -> dict[str, float]:
    """Parts of `capacity` (in replicas) in proportion to what the routers want, so that all lines
    move at one pace; where all get what they want, the rest is dealt out equally, so that the next
    burst is taken without asking. The parts add up to `capacity`, or to what is booked if that is
    more.
    """
    low, high = 0.0, 1.0
    for _ in range(30):
        level = (low + high) / 2
        if sum(demand.part(level) for demand in demands) <= capacity:
            low = level
        else:
            high = level
    parts = {demand.router_id: demand.part(low) for demand in demands}
    spare = max(0.0, capacity - sum(parts.values())) / max(1, len(parts))
    return {router_id: part + spare for router_id, part in parts.items()}


class OtherRouters:
    """The other routers of a model, as far as they were heard."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[RouterDemand, float]] = {}

    def hear(self, demand: RouterDemand, now_s: float) -> None:
        self._heard[demand.router_id] = (demand, now_s)

    def allotment(
        self, own: RouterDemand, replicas: int, used: float, now_s: float
    ) -> float | None:
        """This router's part of the replicas, of which so much is `used` by the ledger of all
        routers' bookings; None, without bounds, while it is alone.
        """
        self._heard = {
            router_id: heard
            for router_id, heard in self._heard.items()
            if now_s - heard[1] < _SILENCE_S
        }
        if not self._heard:
            return None
        demands = [own, *(demand for demand, _ in self._heard.values())]
        density = _LEAST_DENSITY
        if used > 0:
            density = max(density, sum(demand.booked for demand in demands) / used)
        return allot(replicas * density, demands)[own.router_id]

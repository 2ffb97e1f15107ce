"""How several routers share the replicas of a model.

Each router has a queue of its own. Where a request fits is seen from the ledger of bookings that
the routers publish; how much each may have booked in all is its quota. So two routers that see the
same headroom do not both fill it before each knows of the other, and a queue is served in
proportion to its length, not to how quick its router is.
"""

from collections.abc import Sequence

from serving.dispatch.messages import RouterDemand

DEMAND_PERIOD_S = 0.25
"""How often each router publishes its demand and takes its quota."""

_LEAST_DENSITY = 1.25
"""Parts that fit on one replica: more than 1, for those that fill its memory go well with those
that fill its batch, and prompts that begin alike share blocks. Where fewer fit, the ledger of
bookings says so."""


def quotas(demands: Sequence[RouterDemand], replicas: int, used: float) -> list[float]:
    """The parts of a replica that each router may have booked, on all `replicas` together, of which
    so many are `used` by the ledger of bookings.
    """
    density = _LEAST_DENSITY
    if used > 0:
        density = max(density, sum(demand.booked for demand in demands) / used)
    return divide(replicas * density, demands)


def divide(capacity: float, demands: Sequence[RouterDemand]) -> list[float]:
    """Divides `capacity` in proportion to what the routers want, so that all queues move at one
    pace; where all get what they want, the rest is dealt out equally, so that the next burst is
    taken without asking. No router gets less than it has booked: the parts add up to `capacity`, or
    to what is booked if that is more.
    """
    low, high = 0.0, 1.0
    for _ in range(30):
        level = (low + high) / 2
        if sum(_part(demand, level) for demand in demands) <= capacity:
            low = level
        else:
            high = level
    parts = [_part(demand, low) for demand in demands]
    spare = max(0.0, capacity - sum(parts)) / max(1, len(parts))
    return [part + spare for part in parts]


def _part(demand: RouterDemand, level: float) -> float:
    """What a router gets where that part of what is wanted can be had."""
    return max(demand.booked, (demand.booked + demand.waiting) * level)

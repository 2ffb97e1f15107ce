"""Divides the replicas of a model among several routers.

Each router has its own queue. The ledger of bookings that the routers publish shows where a request
fits; the quota bounds how much each may have booked of a tenant's requests. So two routers that see
the same headroom do not both fill it before they know of each other, and queues are served in
proportion to their length, not to the speed of their router. Between tenants, `Turns` decides.
"""

from collections import defaultdict
from collections.abc import Sequence

from serving.dispatch.messages import RouterDemand

DEMAND_PERIOD_S = 0.25
"""How often each router publishes its demand and updates its quota."""

_LEAST_DENSITY = 1.25
"""Parts that fit on one replica: more than 1, as memory-bound requests pack well with batch-bound
ones, and prompts with a common prefix share blocks. Where fewer fit, the ledger shows it."""


def quotas(demands: Sequence[RouterDemand], replicas: int, used: float) -> dict[str, float]:
    """Returns the parts of a replica that the first router may have booked of each tenant's
    requests, over all `replicas`, of which `used` are booked by the ledger. Tenants that no other
    router has are left out. Those of no tenant are under the empty name."""
    booked = sum(demand.booked for demand in demands)
    capacity = replicas * max(booked / used if used > 0 else 0.0, _LEAST_DENSITY)
    elsewhere = {name for demand in demands[1:] for name in demand.tenants}
    found = {}
    for name in {"", *(elsewhere & demands[0].tenants.keys())}:
        of_tenant = [_of(name, demand) for demand in demands]
        others = booked - sum(demand.booked for demand in of_tenant)
        found[name] = divide(capacity - others, of_tenant)[0]
    return found


def expected_parts(demands: Sequence[RouterDemand], replicas: int, used: float) -> list[float]:
    """Returns the parts of a replica that each router will come to have booked, if all demands
    remain."""
    density = sum(demand.booked for demand in demands) / used if used > 0 else 0.0
    by_tenants = divide_by_tenants(replicas * max(density, 1.0), demands)
    if by_tenants is not None:
        return by_tenants
    return divide(replicas * max(density, _LEAST_DENSITY), demands)


def divide_by_tenants(capacity: float, demands: Sequence[RouterDemand]) -> list[float] | None:
    """Divides `capacity` among several tenants, max-min fair by weight, and a tenant's part among
    the routers that its requests come to. None: there is enough for all, or one tenant."""
    wanted: defaultdict[str, float] = defaultdict(float)
    weights: dict[str, float] = {}
    for demand in demands:
        for name, of in demand.tenants.items():
            wanted[name] += of.booked + of.waiting
            weights[name] = of.weight
    if len(wanted) < 2 or sum(wanted.values()) <= capacity:
        return None
    met, left, weight = {}, capacity, sum(weights.values())
    for name in sorted(wanted, key=lambda name: wanted[name] / weights[name]):
        part = min(wanted[name], left * weights[name] / weight)
        met[name] = part / wanted[name] if wanted[name] else 1.0
        left -= part
        weight -= weights[name]
    return [
        sum((of.booked + of.waiting) * met[name] for name, of in demand.tenants.items())
        for demand in demands
    ]


def divide(capacity: float, demands: Sequence[RouterDemand]) -> list[float]:
    """Divides `capacity` in proportion to demand, so that all queues advance at one pace. If every
    demand is met, the remainder is divided equally, so that the next burst needs no negotiation. No
    router gets less than it has booked: the parts add up to `capacity`, or to what is booked if
    more."""
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


def _of(tenant: str, demand: RouterDemand) -> RouterDemand:
    """Returns a tenant's part of a router's demand."""
    if tenant:
        of = demand.tenants.get(tenant)
        return RouterDemand(of.booked, of.waiting) if of else RouterDemand(0.0, 0.0)
    named = demand.tenants.values()
    return RouterDemand(
        max(0.0, demand.booked - sum(of.booked for of in named)),
        max(0.0, demand.waiting - sum(of.waiting for of in named)),
    )


def _part(demand: RouterDemand, level: float) -> float:
    """Returns what a router gets if the share `level` of the waiting demand can be met."""
    return max(demand.booked, (demand.booked + demand.waiting) * level)

"""Shares the engines' work among tenants by weight, in virtual time."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from serving.dispatch.messages import Service
from serving.dispatch.request import PRIORITIES


class Backlog(NamedTuple):
    """What a tenant waits for."""

    share: float
    """Parts of a replica."""
    weight: float


Rank: TypeAlias = tuple[int, float]
"""A priority, negated, and a virtual time: the least is served first."""


class FairShare:
    """The virtual time of each tenant: the engine time of its requests over its weight. Whoever
    waits and has least is served next, within a priority.

    These are the counters of VTC (Sheng et al., Fairness in Serving Large Language Models, OSDI
    2024), charged by estimate when a request is placed, as in start-time fair queueing (Goyal et
    al., SIGCOMM 1996), and corrected when it ends. A tenant that begins to wait is lifted to the
    least of those that wait, so it has no credit for its idleness. All routers charge what any of
    them places, and hold back a tenant that leads while another waits at another router.
    """

    def __init__(self) -> None:
        self.served_ms: dict[str, float] = {}
        """Engine time of the requests of this router that have ended, by tenant."""
        self._virtual_ms: list[dict[str, float]] = [{} for _ in range(PRIORITIES)]
        self._last_start_ms = [0.0] * PRIORITIES
        """The virtual time of the tenant that was served last, before it was charged."""
        self._elsewhere: dict[str, int] = {}
        """The tenants that wait at other routers, each with the highest priority."""
        self._lead_ms = 0.0

    def virtual_ms(self, tenant: str, priority: int) -> float:
        return self._virtual_ms[priority].get(tenant, 0.0)

    def rank(self, tenant: str, priority: int) -> Rank:
        return -priority, self.virtual_ms(tenant, priority)

    def wake(self, tenant: str, priority: int, waiting: Iterable[str]) -> None:
        """Lifts the virtual time of a tenant that begins to wait to the least of those that do
        already: those `waiting` at this router, and those at others."""
        elsewhere = (name for name, at in self._elsewhere.items() if at == priority)
        others = {*waiting, *elsewhere}
        if tenant in others:
            return
        times = self._virtual_ms[priority]
        floor = self._floor_ms(priority, others)
        if times.get(tenant, 0.0) <= floor:
            times[tenant] = floor

    def meet(self, elsewhere: dict[str, int], here: Mapping[str, int], lead_ms: float) -> None:
        """Takes the tenants that wait at other routers and those that wait `here`, each with the
        highest priority. As this is known with a delay, a tenant may lead by `lead_ms`."""
        for tenant, priority in elsewhere.items():
            if self._elsewhere.get(tenant) != priority:
                self.wake(tenant, priority, (name for name, at in here.items() if at == priority))
        self._elsewhere = elsewhere
        self._lead_ms = lead_ms

    def last_rank(self) -> Rank | None:
        """Returns the rank behind which no request of this router is to be placed now, as a tenant
        that waits at another router comes before it. None: any may be."""
        if not self._elsewhere:
            return None
        priority, virtual_ms = min(self.rank(*one) for one in self._elsewhere.items())
        return priority, virtual_ms + self._lead_ms

    def charge(self, tenant: str, priority: int, weight: float, engine_ms: float) -> Service:
        """Charges a tenant for a request that is placed."""
        times = self._virtual_ms[priority]
        start_ms, virtual_ms = times.get(tenant, 0.0), engine_ms / weight
        times[tenant] = start_ms + virtual_ms
        self._last_start_ms[priority] = start_ms
        return Service(tenant, priority, virtual_ms, start_ms)

    def correct(self, service: Service, weight: float, engine_ms: float) -> Service:
        """Replaces the charge for a request by the engine time that it took. Returns the
        difference."""
        tenant, priority = service.tenant, service.priority
        virtual_ms = engine_ms / weight - service.virtual_ms
        self._virtual_ms[priority][tenant] += virtual_ms
        self.served_ms[tenant] = self.served_ms.get(tenant, 0.0) + engine_ms
        return Service(tenant, priority, virtual_ms)

    def receive(self, service: Service) -> None:
        """Applies a charge or a correction of another router."""
        times = self._virtual_ms[service.priority]
        virtual_ms = times.get(service.tenant, 0.0)
        if service.start_ms is not None:
            virtual_ms = max(virtual_ms, service.start_ms)
            self._last_start_ms[service.priority] = service.start_ms
        times[service.tenant] = virtual_ms + service.virtual_ms

    def share_ahead(
        self,
        tenant: str,
        priority: int,
        own: Backlog,
        others: Mapping[str, Backlog],
        shares_per_ms: float,
    ) -> float:
        """Returns the parts of a replica that `others` get, of what they wait for, before a tenant
        has its `own`, by generalised processor sharing. `shares_per_ms` is what a replica serves
        per millisecond of engine time."""
        floor = self._floor_ms(priority, others)
        began_ms = max(self.virtual_ms(tenant, priority), floor)
        turn, ahead = own.share / own.weight, 0.0
        for name, (share, weight) in others.items():
            lead_ms = began_ms - max(self.virtual_ms(name, priority), floor)
            ahead += min(share, max(0.0, turn + lead_ms * shares_per_ms) * weight)
        return ahead

    def _floor_ms(self, priority: int, waiting: Iterable[str]) -> float:
        times = self._virtual_ms[priority]
        known = (times[name] for name in waiting if name in times)
        return min(known, default=self._last_start_ms[priority])


def together(*backlogs: Mapping[str, Backlog]) -> dict[str, Backlog]:
    """Returns the sums by tenant, with the weights that are named last."""
    sums: dict[str, Backlog] = {}
    for of in backlogs:
        for name, (share, weight) in of.items():
            sums[name] = Backlog(sums[name].share + share if name in sums else share, weight)
    return sums

"""The queue of waiting reservations: by priority, then by the tenants' shares, then by arrival."""

import heapq
from collections.abc import Iterator, Set
from typing import TypeAlias

from sortedcontainers import SortedList

from serving.dispatch.fair_share import Backlog, FairShare
from serving.dispatch.request import Request
from serving.dispatch.reservation import Reservation
from serving.dispatch.tenant_queue import TenantQueue
from serving.placement import ReplicaLoad

_LEAST_HEAD = 8
"""How many reservations of each tenant belong to the head, however many tenants wait."""

_Rank: TypeAlias = tuple[int, float, int]


class RequestQueue:
    """A queue of each tenant. Each operation is O(log n) in the number of reservations, and linear
    in the number of tenants that wait."""

    def __init__(self, fair_share: FairShare) -> None:
        self.held: dict[Reservation, ReplicaLoad] = {}
        """Reservations outside the queue for which a replica is held until they fit there."""
        self._fair_share = fair_share
        self._tenants: dict[str, TenantQueue] = {}
        self._waiting: dict[str, TenantQueue] = {}
        """Those of `_tenants` that are not empty."""
        self._by_expiry: SortedList[tuple[float, int, Reservation]] = SortedList()

    def __len__(self) -> int:
        """The number of reservations in the queue, without those that a replica is held for."""
        return len(self._by_expiry)

    @property
    def waiting(self) -> int:
        """The number of reservations that wait, in the queue or for a held replica."""
        return len(self._by_expiry) + len(self.held)

    @property
    def tenants(self) -> Set[str]:
        """The tenants that have reservations in the queue."""
        return self._waiting.keys()

    def waiting_of(self, tenant: str) -> int:
        """Returns the number of a tenant's reservations in the queue."""
        queue = self._tenants.get(tenant)
        return 0 if queue is None else len(queue)

    def add(self, reservation: Reservation) -> None:
        request = reservation.request
        tenant, priority = request.tenant, request.priority
        queue = self._tenants.get(tenant)
        if queue is None:
            queue = self._tenants[tenant] = TenantQueue(tenant)
        if tenant and not queue.counts[priority]:
            others = [name for name, other in self._waiting.items() if other.counts[priority]]
            self._fair_share.wake(tenant, priority, others)
        queue.add(reservation)
        self._waiting[tenant] = queue
        self._by_expiry.add((reservation.expires_at_s, reservation.number, reservation))

    def remove(self, reservation: Reservation) -> None:
        """Removes a waiting reservation, from the queue or from its held replica."""
        if self.held.pop(reservation, None) is not None:
            return
        tenant = reservation.request.tenant
        queue = self._waiting[tenant]
        queue.remove(reservation)
        if not queue:
            del self._waiting[tenant]
        self._by_expiry.remove((reservation.expires_at_s, reservation.number, reservation))

    def hold(self, reservation: Reservation, replica: ReplicaLoad) -> None:
        """Holds a replica for a reservation in the queue."""
        self.remove(reservation)
        self.held[reservation] = replica

    def put_back(self, reservation: Reservation) -> None:
        """Releases the replica held for a reservation, which returns to its position in the
        queue."""
        del self.held[reservation]
        self.add(reservation)

    def share_ahead(self, priority: int) -> float:
        """Returns the parts of a replica that reservations of this priority or above wait for,
        together with those that a replica is held for."""
        ahead = sum(sum(queue.shares[priority:]) for queue in self._waiting.values())
        if self.held:
            ahead += sum(reservation.share for reservation in self.held)
        return ahead

    def backlogs(self, priority: int) -> dict[str, Backlog]:
        """Returns what each tenant waits for at this priority."""
        return {
            name: Backlog(queue.shares[priority], queue.weight)
            for name, queue in self._waiting.items()
            if queue.counts[priority]
        }

    def demands(self) -> dict[str, Backlog]:
        """Returns what each tenant waits for at any priority."""
        return {
            name: Backlog(sum(queue.shares), queue.weight) for name, queue in self._waiting.items()
        }

    def head(self, count: int) -> Iterator[Reservation]:
        """Yields the first reservations in order, `count` or a few more, among them some of each
        tenant. The queue must not change during iteration."""
        waiting = self._waiting
        if len(waiting) > 1:
            of_each = max(_LEAST_HEAD, count // len(waiting))
            heads = (queue.head(of_each) for queue in waiting.values())
            return heapq.merge(*heads, key=self._rank)
        return next((queue.head(count) for queue in waiting.values()), iter(()))

    def first(self) -> Reservation | None:
        firsts = [queue.first() for queue in self._waiting.values()]
        if len(firsts) > 1:
            return min(firsts, key=self._rank)
        return firsts[0] if firsts else None

    def first_within(self, kv_tokens: int) -> Reservation | None:
        """Returns the first reservation of at most `kv_tokens`, as `TenantQueue.first_within` finds
        it."""
        waiting = self._waiting
        if kv_tokens < 0:
            return None
        if len(waiting) < 2:
            return next((queue.first_within(kv_tokens) for queue in waiting.values()), None)
        best: tuple[_Rank, Reservation] | None = None
        in_turn = sorted((self._rank(queue.first()), queue) for queue in waiting.values())
        for rank, queue in in_turn:
            if best is not None and best[0] < rank:
                break
            found = queue.first_within(kv_tokens)
            if found is not None and (best is None or self._rank(found) < best[0]):
                best = self._rank(found), found
        return None if best is None else best[1]

    def last(self) -> Reservation | None:
        """Returns the reservation that makes way if the queue is full: of the lowest priority, the
        newest of the tenant that waits for most by its weight."""
        lasts = [queue.last() for queue in self._waiting.values()]
        if len(lasts) < 2:
            return lasts[0] if lasts else None
        return max(lasts, key=lambda one: (-one.request.priority, self._backlog(one.request)))

    def makes_way(self, request: Request, share: float) -> bool:
        """Whether the last reservation would make way for this request if the queue were full."""
        last = self.last()
        if last is None:
            return False
        other = last.request
        if other.priority != request.priority or other.tenant == request.tenant:
            return other.priority < request.priority
        return self._backlog(other) > self._backlog(request) + share / request.weight

    def next_to_expire(self) -> Reservation | None:
        """Returns the reservation that expires first, in the queue or for a held replica."""
        first = self._by_expiry[0][2] if self._by_expiry else None
        if not self.held:
            return first
        waiting = [*self.held] if first is None else [first, *self.held]
        return min(waiting, key=lambda reservation: reservation.expires_at_s)

    def _rank(self, reservation: Reservation) -> _Rank:
        request = reservation.request
        virtual_ms = self._fair_share.virtual_ms(request.tenant, request.priority)
        return -request.priority, virtual_ms, reservation.number

    def _backlog(self, request: Request) -> float:
        """Returns what a request's tenant waits for at its priority, in parts of a replica over its
        weight."""
        queue = self._waiting.get(request.tenant)
        return 0.0 if queue is None else queue.shares[request.priority] / request.weight

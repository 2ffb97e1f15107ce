"""The queue of waiting reservations: by priority, then by the tenants' shares, then by arrival."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from typing import TypeAlias

from sortedcontainers import SortedList

from serving.dispatch.fair_share import Backlog, FairShare, Rank
from serving.dispatch.request import Request
from serving.dispatch.reservation import Reservation
from serving.dispatch.tenant_queue import TenantQueue
from serving.placement import ReplicaLoad

_LEAST_HEAD = 8
"""How many reservations of each tenant belong to the head, however many tenants wait."""

_Position: TypeAlias = tuple[Rank, int]

_Flow: TypeAlias = tuple[str, str]
"""A tenant and an adapter."""


class RequestQueue:
    """A queue of each tenant and adapter. Each operation is O(log n) in the number of reservations,
    and linear in the number of tenants and of adapters that wait."""

    def __init__(self, fair_share: FairShare) -> None:
        self.held: dict[Reservation, ReplicaLoad] = {}
        """Reservations outside the queue for which a replica is held until they fit there."""
        self.blocked: Collection[str] = ()
        """Adapters that run nowhere and wait for a slot. Their reservations let all others pass."""
        self._fair_share = fair_share
        self._flows: dict[_Flow, TenantQueue] = {}
        self._waiting: dict[_Flow, TenantQueue] = {}
        """Those of `_flows` that are not empty."""
        self._by_expiry: SortedList[tuple[float, int, Reservation]] = SortedList()
        self._length = 0
        """The length of `_by_expiry`, which is slower to say it."""

    def __len__(self) -> int:
        """The number of reservations in the queue, without those that a replica is held for."""
        return self._length

    @property
    def waiting(self) -> int:
        """The number of reservations that wait, in the queue or for a held replica."""
        return self._length + len(self.held)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, at other routers either."""
        return not self.waiting and self._fair_share.last_rank() is None

    @property
    def tenants(self) -> Set[str]:
        """The tenants that have reservations in the queue."""
        return {tenant for tenant, _ in self._waiting}

    @property
    def adapters(self) -> Set[str]:
        """The adapters that reservations in the queue are for."""
        return {adapter for _, adapter in self._waiting if adapter}

    def waiting_of(self, tenant: str) -> int:
        """Returns the number of a tenant's reservations in the queue."""
        return sum(len(queue) for (name, _), queue in self._waiting.items() if name == tenant)

    def add(self, reservation: Reservation) -> None:
        request = reservation.request
        tenant, priority = request.tenant, request.priority
        flow = tenant, request.work.adapter
        queue = self._flows.get(flow)
        if queue is None:
            queue = self._flows[flow] = TenantQueue(tenant)
        if tenant and not queue.counts[priority]:
            waiting = (name for (name, _), one in self._waiting.items() if one.counts[priority])
            self._fair_share.wake(tenant, priority, waiting)
        queue.add(reservation)
        self._waiting[flow] = queue
        self._by_expiry.add((reservation.expires_at_s, reservation.number, reservation))
        self._length += 1

    def remove(self, reservation: Reservation) -> None:
        """Removes a waiting reservation, from the queue or from its held replica."""
        if self.held.pop(reservation, None) is not None:
            return
        flow = reservation.request.tenant, reservation.request.work.adapter
        queue = self._waiting[flow]
        queue.remove(reservation)
        if not queue:
            del self._waiting[flow]
            if flow[1]:  # of adapters there may ever be others
                del self._flows[flow]
        self._by_expiry.remove((reservation.expires_at_s, reservation.number, reservation))
        self._length -= 1

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
        ahead = sum(sum(queue.shares[priority:]) for queue in self._not_blocked())
        if self.held:
            ahead += sum(reservation.share for reservation in self.held)
        return ahead

    def backlogs(self, priority: int) -> dict[str, Backlog]:
        """Returns what each tenant waits for at this priority."""
        return self._backlogs(
            (queue.tenant, queue.shares[priority], queue.weight)
            for queue in self._not_blocked()
            if queue.counts[priority]
        )

    def demands(self) -> dict[str, Backlog]:
        """Returns what each tenant waits for at any priority."""
        return self._backlogs(
            (tenant, sum(queue.shares), queue.weight)
            for (tenant, _), queue in self._waiting.items()
        )

    def priorities(self) -> dict[str, int]:
        """Returns the highest priority at which each tenant waits, for more than an adapter."""
        found: dict[str, int] = {}
        for reservation in (*self.held, *(queue.first() for queue in self._not_blocked())):
            request = reservation.request
            found[request.tenant] = max(request.priority, found.get(request.tenant, 0))
        return found

    def head(self, count: int) -> Iterator[Reservation]:
        """Yields the first reservations that may be placed, in order, `count` or a few more, among
        them some of each tenant and adapter. The queue must not change during iteration."""
        waiting = self._in_turn()
        if len(waiting) > 1:
            of_each = max(_LEAST_HEAD, count // len(waiting))
            heads = (queue.head(of_each) for queue in waiting)
            return heapq.merge(*heads, key=self._position)
        return next((queue.head(count) for queue in waiting), iter(()))

    def first_of_adapters(self) -> Sequence[Reservation]:
        """Returns the first reservation of each adapter, in order."""
        firsts: dict[str, Reservation] = {}
        for (_, adapter), queue in self._waiting.items():
            if adapter:
                first = queue.first()
                known = firsts.get(adapter)
                if known is None or self._position(first) < self._position(known):
                    firsts[adapter] = first
        return sorted(firsts.values(), key=self._position)

    def first(self) -> Reservation | None:
        """Returns the first reservation that may be placed."""
        firsts = [queue.first() for queue in self._in_turn()]
        if len(firsts) > 1:
            return min(firsts, key=self._position)
        return firsts[0] if firsts else None

    def first_within(self, kv_tokens: int) -> Reservation | None:
        """Returns the first reservation of at most `kv_tokens` that may be placed, as
        `TenantQueue.first_within` finds it."""
        waiting = self._in_turn()
        if kv_tokens < 0:
            return None
        if len(waiting) < 2:
            return next((queue.first_within(kv_tokens) for queue in waiting), None)
        best: tuple[_Position, Reservation] | None = None
        in_order = sorted((self._position(queue.first()), queue) for queue in waiting)
        for position, queue in in_order:
            if best is not None and best[0] < position:
                break
            found = queue.first_within(kv_tokens)
            if found is not None and (best is None or self._position(found) < best[0]):
                best = self._position(found), found
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
        first = self._by_expiry[0][2] if self._length else None
        if not self.held:
            return first
        waiting = [*self.held] if first is None else [first, *self.held]
        return min(waiting, key=lambda reservation: reservation.expires_at_s)

    def _rank(self, reservation: Reservation) -> Rank:
        request = reservation.request
        return self._fair_share.rank(request.tenant, request.priority)

    def _position(self, reservation: Reservation) -> _Position:
        return self._rank(reservation), reservation.number

    def _backlog(self, request: Request) -> float:
        """Returns what a request's tenant waits for at its priority, in parts of a replica over its
        weight."""
        backlog = self.backlogs(request.priority).get(request.tenant)
        return 0.0 if backlog is None else backlog.share / request.weight

    def _not_blocked(self) -> Collection[TenantQueue]:
        blocked = self.blocked
        if not blocked:
            return self._waiting.values()
        return [queue for (_, adapter), queue in self._waiting.items() if adapter not in blocked]

    def _in_turn(self) -> Collection[TenantQueue]:
        waiting, last = self._not_blocked(), self._fair_share.last_rank()
        if last is None:
            return waiting
        return [queue for queue in waiting if self._rank(queue.first()) <= last]

    @staticmethod
    def _backlogs(parts: Iterable[tuple[str, float, float]]) -> dict[str, Backlog]:
        """Adds up the parts of a replica that each tenant waits for."""
        backlogs: dict[str, Backlog] = {}
        for tenant, share, weight in parts:
            other = backlogs.get(tenant)
            backlogs[tenant] = Backlog(share + (other.share if other else 0.0), weight)
        return backlogs

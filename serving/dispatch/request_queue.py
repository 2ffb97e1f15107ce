"""The queue of waiting reservations, by priority and then by arrival."""

from collections.abc import Iterator
from itertools import islice
from typing import TypeAlias

from sortedcontainers import SortedList

from serving.dispatch.request import PRIORITIES
from serving.dispatch.reservation import Reservation
from serving.placement import ReplicaLoad

_Entry: TypeAlias = tuple[float, int, Reservation]


class RequestQueue:
    """Each operation is O(log n) in the number of reservations and in the largest request.

    Reservations are also indexed by size class (the power of two above their KV tokens), so that
    the first that fits is found by looking at the first of each class.
    """

    def __init__(self) -> None:
        self.shares = [0.0] * PRIORITIES
        """The parts of a replica that the reservations of each priority wait for."""
        self.held: dict[Reservation, ReplicaLoad] = {}
        """Reservations outside the queue for which a replica is held until they fit there."""
        self._in_order: SortedList[_Entry] = SortedList()
        self._by_size: dict[int, SortedList[_Entry]] = {}
        self._by_expiry: SortedList[_Entry] = SortedList()

    def __len__(self) -> int:
        """The number of reservations in the queue, without those that a replica is held for."""
        return len(self._in_order)

    @property
    def waiting(self) -> int:
        """The number of reservations that wait, in the queue or for a held replica."""
        return len(self._in_order) + len(self.held)

    def add(self, reservation: Reservation) -> None:
        entry = _entry(reservation)
        self._in_order.add(entry)
        size = reservation.kv_tokens.bit_length()
        of_size = self._by_size.get(size)
        if of_size is None:
            of_size = self._by_size[size] = SortedList()
        of_size.add(entry)
        self._by_expiry.add((reservation.expires_at_s, reservation.number, reservation))
        self.shares[reservation.request.priority] += reservation.share

    def remove(self, reservation: Reservation) -> None:
        """Removes a waiting reservation, from the queue or from its held replica."""
        if self.held.pop(reservation, None) is not None:
            return
        entry = _entry(reservation)
        self._in_order.remove(entry)
        self._by_size[reservation.kv_tokens.bit_length()].remove(entry)
        self._by_expiry.remove((reservation.expires_at_s, reservation.number, reservation))
        # An empty queue weighs exactly 0, whatever the rounding of its sums.
        self.shares[reservation.request.priority] -= reservation.share
        if not self._in_order:
            self.shares = [0.0] * PRIORITIES

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
        ahead = sum(self.shares[priority:])
        if self.held:
            ahead += sum(reservation.share for reservation in self.held)
        return ahead

    def head(self, count: int) -> Iterator[Reservation]:
        """Yields the first reservations in order. The queue must not change during iteration."""
        return (entry[2] for entry in islice(self._in_order, count))

    def first(self) -> Reservation | None:
        return self._in_order[0][2] if self._in_order else None

    def first_within(self, kv_tokens: int) -> Reservation | None:
        """Returns the first reservation of at most `kv_tokens`. Only the first of each size class
        is examined, so a class that fits as a whole is never skipped."""
        best: _Entry | None = None
        for size, entries in self._by_size.items():
            # 1 << size >> 1 is the smallest request of the class.
            if 1 << size >> 1 > kv_tokens or not entries:
                continue
            entry = entries[0]
            if entry[2].kv_tokens <= kv_tokens and (best is None or entry < best):
                best = entry
        return None if best is None else best[2]

    def last(self) -> Reservation | None:
        return self._in_order[-1][2] if self._in_order else None

    def next_to_expire(self) -> Reservation | None:
        """Returns the reservation that expires first, in the queue or for a held replica."""
        first = self._by_expiry[0][2] if self._by_expiry else None
        if not self.held:
            return first
        waiting = [*self.held] if first is None else [first, *self.held]
        return min(waiting, key=lambda reservation: reservation.expires_at_s)


def _entry(reservation: Reservation) -> _Entry:
    return -reservation.request.priority, reservation.number, reservation

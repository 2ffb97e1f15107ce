"""The waiting reservations of one tenant, by priority and then by arrival."""

from collections.abc import Iterator
from itertools import islice
from typing import TypeAlias

from sortedcontainers import SortedList

from serving.dispatch.request import PRIORITIES
from serving.dispatch.reservation import Reservation

_Entry: TypeAlias = tuple[float, int, Reservation]


class TenantQueue:
    """Each operation is O(log n) in the number of reservations and in the largest request.

    Reservations are also indexed by size class (the power of two above their KV tokens), so that
    the first that fits is found by looking at the first of each class.
    """

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.weight = 1.0
        self.shares = [0.0] * PRIORITIES
        """The parts of a replica that the reservations of each priority wait for."""
        self.counts = [0] * PRIORITIES
        """The number of reservations of each priority."""
        self._first: Reservation | None = None
        """The first reservation, as it is asked for often."""
        self._in_order: SortedList[_Entry] = SortedList()
        self._by_size: dict[int, SortedList[_Entry]] = {}

    def __len__(self) -> int:
        return len(self._in_order)

    def add(self, reservation: Reservation) -> None:
        entry = _entry(reservation)
        self._in_order.add(entry)
        self._first = None
        size = reservation.kv_tokens.bit_length()
        of_size = self._by_size.get(size)
        if of_size is None:
            of_size = self._by_size[size] = SortedList()
        of_size.add(entry)
        request = reservation.request
        self.weight = request.weight
        self.shares[request.priority] += reservation.share
        self.counts[request.priority] += 1

    def remove(self, reservation: Reservation) -> None:
        entry = _entry(reservation)
        self._in_order.remove(entry)
        self._first = None
        self._by_size[reservation.kv_tokens.bit_length()].remove(entry)
        priority = reservation.request.priority
        self.counts[priority] -= 1
        # An empty queue weighs exactly 0, whatever the rounding of its sums.
        self.shares[priority] -= reservation.share
        if not self._in_order:
            self.shares = [0.0] * PRIORITIES

    def head(self, count: int) -> Iterator[Reservation]:
        """Yields the first reservations in order. The queue must not change during iteration."""
        return (entry[2] for entry in islice(self._in_order, count))

    def first(self) -> Reservation:
        """Returns the first reservation. Raises IndexError if the queue is empty."""
        first = self._first
        if first is None:
            first = self._first = self._in_order[0][2]
        return first

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

    def last(self) -> Reservation:
        """Returns the last reservation. Raises IndexError if the queue is empty."""
        last: Reservation = self._in_order[-1][2]
        return last


def _entry(reservation: Reservation) -> _Entry:
    return -reservation.request.priority, reservation.number, reservation

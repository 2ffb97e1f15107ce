"""Those who stand first in a line."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import itemgetter

from serving.admission.heap import Heap
from serving.admission.ticket import Ticket

_Entry = tuple[tuple[int, int], Ticket]
_KEY = itemgetter(0)


class Front:
    """The first `size` tickets in order of priority and then of arrival; the others are in a heap
    behind them.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._first: list[_Entry] = []
        self._behind: Heap[Ticket] = Heap()

    def __iter__(self) -> Iterator[Ticket]:
        return (ticket for _, ticket in self._first)

    def add(self, ticket: Ticket) -> None:
        first = self._first
        entry = _entry(ticket)
        if len(first) == self._size:
            if entry[0] > first[-1][0]:
                self._behind.push(*entry)
                return
            self._behind.push(*first.pop())
        insort(first, entry, key=_KEY)

    def remove(self, ticket: Ticket) -> None:
        """One that is `gone`, wherever it stands."""
        first = self._first
        at = bisect_left(first, _entry(ticket)[0], key=_KEY)
        if at == len(first) or first[at][1] is not ticket:
            self._behind.note_gone()
            return
        del first[at]
        if (following := self._behind.pop()) is not None:
            first.append(_entry(following))

    def sweep(self) -> None:
        self._behind.sweep()


def _entry(ticket: Ticket) -> _Entry:
    return (-ticket.demand.priority, ticket.order), ticket

"""Who waits, in order of priority and then of arrival."""

from serving.admission.front import Front
from serving.admission.heap import Heap
from serving.admission.ticket import PRIORITIES, Ticket

_FRONT = 64


class Line:
    """The waiting tickets. Each operation is O(log n) in their number and in the largest request.

    They stand in one queue for each size class (the power of two above their KV tokens), so that
    the first that fits into some room is found by a look at the first of each class.
    """

    def __init__(self) -> None:
        self.shares = [0.0] * PRIORITIES
        """Parts of a replica that those of each priority wait for."""
        self._by_size: dict[int, Heap[Ticket]] = {}
        self._by_expiry: Heap[Ticket] = Heap()
        self._from_the_back: Heap[Ticket] = Heap()
        self.front = Front(_FRONT)
        """The first of them, in order."""
        self._tickets = 0

    def __len__(self) -> int:
        return self._tickets

    def add(self, ticket: Ticket) -> None:
        demand = ticket.demand
        size = demand.kv_tokens.bit_length()
        heap = self._by_size.get(size)
        if heap is None:
            heap = self._by_size[size] = Heap()
        heap.push((-demand.priority, ticket.order), ticket)
        self._by_expiry.push(ticket.expires_at_s, ticket)
        self._from_the_back.push((demand.priority, -ticket.order), ticket)
        self.front.add(ticket)
        self.shares[demand.priority] += ticket.share
        self._tickets += 1

    def remove(self, ticket: Ticket) -> None:
        """Wherever it stands."""
        demand = ticket.demand
        ticket.gone = True
        self._by_size[demand.kv_tokens.bit_length()].note_gone()
        self._by_expiry.note_gone()
        self._from_the_back.note_gone()
        self.front.remove(ticket)
        self._tickets -= 1
        # An empty line weighs nothing, whatever the rounding of its sums.
        self.shares[demand.priority] -= ticket.share
        if not self._tickets:
            self.shares = [0.0] * PRIORITIES

    def put_back(self, ticket: Ticket) -> None:
        """One that was removed, to where it stood. O(n)."""
        for heap in (*self._by_size.values(), self._by_expiry, self._from_the_back):
            heap.sweep()
        self.front.sweep()
        ticket.gone = False
        self.add(ticket)

    def first(self, room_tokens: int) -> Ticket | None:
        """The first of those that take at most `room_tokens`; of a size class only its first is
        looked at, so a class that is small enough on the whole is never passed over.
        """
        best = None
        best_key = (0, 0)
        for size, heap in self._by_size.items():
            # The smallest of a class.
            if 1 << size >> 1 > room_tokens:
                continue
            ticket = heap.first()
            if ticket is not None and ticket.demand.kv_tokens <= room_tokens:
                key = (-ticket.demand.priority, ticket.order)
                if best is None or key < best_key:
                    best, best_key = ticket, key
        return best

    def last(self) -> Ticket | None:
        return self._from_the_back.first()

    def next_to_expire(self) -> Ticket | None:
        return self._by_expiry.first()

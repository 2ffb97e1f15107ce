"""A heap whose items may leave from anywhere."""

from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar


class Leaver(Protocol):
    gone: bool
    """Set by the owner when the item leaves: it is then in none of the heaps that hold it."""


T = TypeVar("T", bound=Leaver)


class Heap(Generic[T]):
    """Items by key, the smallest first. One that leaves is skipped when it comes up, and all such
    are swept out when they are the greater part: memory stays proportional to who is there, and
    each operation costs O(log n), amortised.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Any, int, T]] = []
        self._pushed = 0
        self._gone = 0

    def push(self, key: Any, item: T) -> None:
        self._pushed += 1  # Of equal keys the first pushed; items themselves do not compare.
        heappush(self._entries, (key, self._pushed, item))

    def first(self) -> T | None:
        entries = self._entries
        while entries:
            item = entries[0][2]
            if not item.gone:
                return item
            heappop(entries)
            self._gone -= 1
        return None

    def pop(self) -> T | None:
        """Takes the first out."""
        item = self.first()
        if item is not None:
            heappop(self._entries)
        return item

    def note_gone(self) -> None:
        """To be called once for each item that went."""
        self._gone += 1
        if self._gone > 16 and self._gone * 2 > len(self._entries):
            self.sweep()

    def sweep(self) -> None:
        """Forgets those that went. Due before one of them comes back."""
        self._entries = [entry for entry in self._entries if not entry[2].gone]
        heapify(self._entries)
        self._gone = 0

    def __len__(self) -> int:
        return len(self._entries) - self._gone

"""Refused requests that were told when to come back."""

from collections import deque
from dataclasses import dataclass

from serving.admission.heap import Heap
from serving.admission.ticket import PRIORITIES

_LIMIT = 50_000
"""Of promises; who is refused beyond is not remembered."""
_LEARNING = 0.02
"""Weight of the newest in the part of the refused that come back."""


@dataclass(slots=True, eq=False)
class Promise:
    """To a request: come back then and the line takes you, though it takes no new ones."""

    key: int
    order: int | None
    """Of arrival, kept for those that had waited in the line; the others stand behind it."""
    priority: int
    share: float
    back_at_s: float
    lapses_at_s: float
    gone: bool = False


class Promises:
    """What a Retry-After is worth: those who were refused count as if they waited outside, so that
    the next is told a later time and new ones do not take the room of those who come back. A
    promise that nobody comes back for lapses.
    """

    def __init__(self) -> None:
        self._shares = [0.0] * PRIORITIES
        self._by_key: dict[int, deque[Promise]] = {}
        self._by_lapse: Heap[Promise] = Heap()
        self._returning = 1.0

    def __len__(self) -> int:
        return len(self._by_lapse)

    def expected_share(self, priority: int) -> float:
        """Parts of a replica that those of this priority and above will want when they are back."""
        return self._returning * sum(self._shares[priority:])

    @property
    def expected(self) -> float:
        """Number of those who will be back."""
        return self._returning * len(self._by_lapse)

    def make(self, promise: Promise) -> None:
        if len(self._by_lapse) >= _LIMIT:
            return
        self._by_key.setdefault(promise.key, deque()).append(promise)
        self._by_lapse.push(promise.lapses_at_s, promise)
        self._shares[promise.priority] += promise.share

    def find(self, key: int) -> Promise | None:
        """Of those of this key the one made first."""
        promises = self._by_key.get(key)
        return promises[0] if promises else None

    def keep(self, promise: Promise) -> None:
        """The client is back and let in, or gets a new promise."""
        self._remove(promise)
        self._returning += (1 - self._returning) * _LEARNING

    def lapse(self, now_s: float) -> None:
        """Forgets those that nobody came back for."""
        while (promise := self._by_lapse.first()) is not None and promise.lapses_at_s <= now_s:
            self._remove(promise)
            self._returning -= self._returning * _LEARNING

    def _remove(self, promise: Promise) -> None:
        promise.gone = True
        self._by_lapse.note_gone()
        promises = self._by_key[promise.key]
        promises.remove(promise)
        if not promises:
            del self._by_key[promise.key]
        self._shares[promise.priority] -= promise.share
        if not self._by_lapse:
            self._shares = [0.0] * PRIORITIES

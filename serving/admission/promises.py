"""Refused requests that were told when to come back."""

from collections import deque
from dataclasses import dataclass

import msgspec

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
    """Of a replica that it will want from this router; 0 for one that another router promised."""
    back_at_s: float
    lapses_at_s: float
    gone: bool = False


class Made(msgspec.Struct, frozen=True, array_like=True, tag="made"):
    """News for the other routers, which the client may come back to. Times are from now on, for
    each has its own clock."""

    key: int
    priority: int
    back_in_s: float
    lapses_in_s: float


class Kept(msgspec.Struct, frozen=True, array_like=True, tag="kept"):
    """News for the other routers: the client was here."""

    key: int


class Promises:
    """What a Retry-After is worth: those who were refused count as if they waited outside, so that
    the next is told a later time and new ones do not take the room of those who come back. A
    promise that nobody comes back for lapses.
    """

    def __init__(self) -> None:
        self._shares = [0.0] * PRIORITIES
        self._own = 0
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
        """Number of this router's that will be back."""
        return self._returning * self._own

    def make(self, promise: Promise) -> None:
        if len(self._by_lapse) >= _LIMIT:
            return
        self._by_key.setdefault(promise.key, deque()).append(promise)
        self._by_lapse.push(promise.lapses_at_s, promise)
        if promise.share:
            self._shares[promise.priority] += promise.share
            self._own += 1

    def find(self, key: int) -> Promise | None:
        """Of those of this key the one made first."""
        promises = self._by_key.get(key)
        return promises[0] if promises else None

    def keep(self, promise: Promise) -> None:
        """The client is back, here or at another router, and let in or made a new promise."""
        self._remove(promise)
        if promise.share:
            self._returning += (1 - self._returning) * _LEARNING

    def lapse(self, now_s: float) -> None:
        """Forgets those that nobody came back for."""
        while (promise := self._by_lapse.first()) is not None and promise.lapses_at_s <= now_s:
            self._remove(promise)
            if promise.share:
                self._returning -= self._returning * _LEARNING

    def hear(self, news: Made | Kept, now_s: float) -> None:
        """Of another router."""
        if isinstance(news, Made):
            back_at_s, lapses_at_s = now_s + news.back_in_s, now_s + news.lapses_in_s
            self.make(Promise(news.key, None, news.priority, 0.0, back_at_s, lapses_at_s))
        elif promise := self.find(news.key):
            self.keep(promise)

    def _remove(self, promise: Promise) -> None:
        promise.gone = True
        self._by_lapse.note_gone()
        promises = self._by_key[promise.key]
        promises.remove(promise)
        if not promises:
            del self._by_key[promise.key]
        if promise.share:
            self._own -= 1
            self._shares[promise.priority] -= promise.share
            if not self._own:
                self._shares = [0.0] * PRIORITIES

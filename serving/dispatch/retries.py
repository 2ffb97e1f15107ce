"""Rejected requests that were told when to come back."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from sortedcontainers import SortedList

from serving.dispatch.messages import RetryIssued, RetryMessage, RetryRedeemed
from serving.dispatch.request import PRIORITIES

_MOST = 50_000
"""Reservations beyond are not remembered."""
_LEARNING = 0.02
"""Weight of the newest in the part of the rejected that come back."""


@dataclass(slots=True, eq=False)
class RetryReservation:
    """A place in the queue for a request that comes back when it was told to, though the queue may
    take no new ones then."""

    key: int
    number: int | None
    """Its place by arrival, kept for one that had waited in the queue; None: behind all."""
    priority: int
    share: float
    """The part of a replica that it will want from this router; 0 if another router issued it."""
    retry_at_s: float
    expires_at_s: float


class RetryReservations:
    """What a Retry-After is worth: those who were rejected count as if they waited outside, so that
    the next is told a later time and new ones do not take the headroom of those who come back. One
    that nobody redeems expires.
    """

    def __init__(self, publish: Callable[[RetryMessage], object] = lambda message: None) -> None:
        """`publish` is given what the other routers are to know."""
        self._publish = publish
        self._shares = [0.0] * PRIORITIES
        self._own = 0
        self._by_key: dict[int, deque[tuple[float, int, RetryReservation]]] = {}
        self._by_expiry: SortedList[tuple[float, int, RetryReservation]] = SortedList()
        self._numbers = count()
        self._returning = 1.0

    def __len__(self) -> int:
        return len(self._by_expiry)

    def expected_share(self, priority: int) -> float:
        """The parts of a replica that those of this priority and above will want when they are
        back."""
        return self._returning * sum(self._shares[priority:])

    @property
    def expected(self) -> float:
        """How many of this router's will be back."""
        return self._returning * self._own

    def issue(self, retry: RetryReservation, now_s: float) -> None:
        self._add(retry)
        in_s, expires_in_s = retry.retry_at_s - now_s, retry.expires_at_s - now_s
        self._publish(RetryIssued(retry.key, retry.priority, in_s, expires_in_s))

    def find(self, key: int | None, now_s: float) -> RetryReservation | None:
        """The first that was issued to this key and has not expired."""
        self._expire(now_s)
        entries = None if key is None else self._by_key.get(key)
        return entries[0][2] if entries else None

    def redeem(self, retry: RetryReservation) -> None:
        """The client came back, and was let in or is issued a new one."""
        self._take(retry)
        self._publish(RetryRedeemed(retry.key))

    def receive(self, message: RetryMessage, now_s: float) -> None:
        """From another router."""
        if isinstance(message, RetryIssued):
            retry_at_s, expires_at_s = now_s + message.retry_in_s, now_s + message.expires_in_s
            self._add(
                RetryReservation(message.key, None, message.priority, 0.0, retry_at_s, expires_at_s)
            )
        elif (retry := self.find(message.key, now_s)) is not None:
            self._take(retry)

    def _add(self, retry: RetryReservation) -> None:
        if len(self._by_expiry) >= _MOST:
            return
        entry = retry.expires_at_s, next(self._numbers), retry
        self._by_key.setdefault(retry.key, deque()).append(entry)
        self._by_expiry.add(entry)
        if retry.share:
            self._shares[retry.priority] += retry.share
            self._own += 1

    def _take(self, retry: RetryReservation) -> None:
        self._remove(retry)
        if retry.share:
            self._returning += (1 - self._returning) * _LEARNING

    def _expire(self, now_s: float) -> None:
        """Forgets those that nobody came back for."""
        while self._by_expiry and self._by_expiry[0][0] <= now_s:
            retry = self._by_expiry[0][2]
            self._remove(retry)
            if retry.share:
                self._returning -= self._returning * _LEARNING

    def _remove(self, retry: RetryReservation) -> None:
        entries = self._by_key[retry.key]
        entry = next(entry for entry in entries if entry[2] is retry)
        entries.remove(entry)
        if not entries:
            del self._by_key[retry.key]
        self._by_expiry.remove(entry)
        if retry.share:
            self._own -= 1
            self._shares[retry.priority] -= retry.share
            if not self._own:
                self._shares = [0.0] * PRIORITIES

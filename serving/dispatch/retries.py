"""Reservations issued to rejected requests that were told when to retry."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from sortedcontainers import SortedList

from serving.dispatch.fair_share import Backlog
from serving.dispatch.messages import RetryIssued, RetryMessage, RetryRedeemed
from serving.dispatch.request import PRIORITIES

_MOST = 50_000
"""Limit on the reservations that are remembered."""
_LEARNING = 0.02
"""Weight of the newest sample in the share of rejected requests that come back."""


@dataclass(slots=True, eq=False)
class RetryReservation:
    """A claim to the queue for a rejected request that retries at the time it was told, even if the
    queue admits no new requests then."""

    key: int
    number: int | None
    """Its arrival number, kept for a request that had waited in the queue; None: behind all
    others."""
    priority: int
    share: float
    """The part of a replica that it will need from this router; 0 if another router issued it."""
    retry_at_s: float
    expires_at_s: float
    tenant: str = ""
    weight: float = 1.0


class _Expected:
    """What the reservations of one tenant will need."""

    def __init__(self) -> None:
        self.shares = [0.0] * PRIORITIES
        self.count = 0
        self.weight = 1.0


class RetryReservations:
    """Makes Retry-After reliable: rejected requests count as if they waited outside the queue, so
    that later ones are told later times and new ones do not take the headroom of those who come
    back. A reservation that is not redeemed expires."""

    def __init__(self, publish: Callable[[RetryMessage], object] = lambda message: None) -> None:
        """`publish` is called with messages for the other routers."""
        self._publish = publish
        self._of_tenants: dict[str, _Expected] = {}
        """This router's reservations, by tenant."""
        self._by_key: dict[int, deque[tuple[float, int, RetryReservation]]] = {}
        self._by_expiry: SortedList[tuple[float, int, RetryReservation]] = SortedList()
        self._numbers = count()
        self._returning = 1.0

    def __len__(self) -> int:
        return len(self._by_expiry)

    def expected_share(self, priority: int) -> float:
        """Returns the parts of a replica that requests of this priority and above are expected to
        need when they come back."""
        parts = sum(sum(of.shares[priority:]) for of in self._of_tenants.values())
        return self._returning * parts

    def backlogs(self, priority: int) -> dict[str, Backlog]:
        """Returns what the requests of each tenant at this priority are expected to need."""
        return {
            tenant: Backlog(self._returning * of.shares[priority], of.weight)
            for tenant, of in self._of_tenants.items()
        }

    def demands(self) -> dict[str, Backlog]:
        """Returns what the requests of each tenant are expected to need."""
        return {
            tenant: Backlog(self._returning * sum(of.shares), of.weight)
            for tenant, of in self._of_tenants.items()
        }

    @property
    def expected(self) -> float:
        """The expected number of this router's reservations that will be redeemed."""
        return self._returning * sum(of.count for of in self._of_tenants.values())

    def expected_of(self, tenant: str) -> float:
        """Returns the part of `expected` that is a tenant's."""
        of = self._of_tenants.get(tenant)
        return 0.0 if of is None else self._returning * of.count

    def issue(self, retry: RetryReservation, now_s: float) -> None:
        self._add(retry)
        in_s, expires_in_s = retry.retry_at_s - now_s, retry.expires_at_s - now_s
        self._publish(RetryIssued(retry.key, retry.priority, in_s, expires_in_s))

    def find(self, key: int | None, now_s: float) -> RetryReservation | None:
        """Returns the first unexpired reservation issued to this key."""
        self._expire(now_s)
        entries = None if key is None else self._by_key.get(key)
        return entries[0][2] if entries else None

    def redeem(self, retry: RetryReservation) -> None:
        """Removes a reservation whose client came back, and was admitted or is issued a new one."""
        self._take(retry)
        self._publish(RetryRedeemed(retry.key))

    def receive(self, message: RetryMessage, now_s: float) -> None:
        """Applies a message from another router."""
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
            of = self._of_tenants.get(retry.tenant)
            if of is None:
                of = self._of_tenants[retry.tenant] = _Expected()
            of.shares[retry.priority] += retry.share
            of.count += 1
            of.weight = retry.weight

    def _take(self, retry: RetryReservation) -> None:
        self._remove(retry)
        if retry.share:
            self._returning += (1 - self._returning) * _LEARNING

    def _expire(self, now_s: float) -> None:
        """Removes reservations that nobody redeemed in time."""
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
            of = self._of_tenants[retry.tenant]
            of.shares[retry.priority] -= retry.share
            of.count -= 1
            if not of.count:
                del self._of_tenants[retry.tenant]

"""An engine's counts of tokens, kept for the routers that account for them.

A router names itself and its request in the header `x-usage-id`, and once a second fetches the
counts of its requests: of those that run, and of those that have ended, however they ended. Counts
of ended requests are kept until the router has confirmed them with its next question.
"""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from urllib.parse import parse_qs

import msgspec

from serving.engine_protocol import EngineUsage
from serving.ledger.tokens import Tokens

_MOST_KEPT = 10_000
"""Ended requests that are kept for a router that does not ask; the oldest go first."""
_MOST_ROUTERS = 64


class UsageJournal:
    """The counts of one engine."""

    def __init__(self) -> None:
        self._routers: dict[str, _Account] = {}

    def meter(self, usage_id: bytes) -> "Meter":
        """Returns the meter of a request, to be held as a context while the request runs. Without
        a `usage_id` nothing is kept."""
        router, _, number = usage_id.decode("latin1").rpartition("/")
        if not router or not number.isdecimal():
            return Meter(_Account(), 0)
        return Meter(self._account(router), int(number))

    def report(self, query: bytes) -> EngineUsage:
        """Answers a router: `router` is its name in the query, and `after` the `last` of the report
        that it has already."""
        fields = parse_qs(query.decode("latin1"))
        account = self._account(fields.get("router", [""])[0])
        after = fields.get("after", ["0"])[0]
        account.confirm(int(after) if after.isdecimal() else 0)
        running = {number: meter.read() for number, meter in account.running.items()}
        return EngineUsage(running, dict(account.ended), account.last)

    @property
    def unclaimed(self) -> int:
        """The number of ended requests whose counts no router has confirmed."""
        return sum(len(account.ended) for account in self._routers.values())

    def _account(self, router: str) -> "_Account":
        account = self._routers.get(router)
        if account is None:
            if len(self._routers) >= _MOST_ROUTERS:
                idle = [name for name, one in self._routers.items() if not one.running]
                for name in idle[:1]:
                    del self._routers[name]
            account = self._routers[router] = _Account()
        return account


class _Account:
    """The requests of one router."""

    def __init__(self) -> None:
        self.running: dict[int, Meter] = {}
        self.ended: deque[tuple[int, Tokens]] = deque(maxlen=_MOST_KEPT)
        self.last = 0
        """How many have ended so far."""

    def end(self, number: int, tokens: Tokens) -> None:
        self.ended.append((number, tokens))
        self.last += 1

    def confirm(self, after: int) -> None:
        while self.ended and self.last - len(self.ended) < after:
            self.ended.popleft()


class Meter:
    """The counts of one request."""

    __slots__ = ("_account", "_number", "sources")

    def __init__(self, account: _Account, number: int) -> None:
        self._account = account
        self._number = number
        self.sources: list[Callable[[], Tokens]] = []
        """Return the counts so far of each generation for the request."""

    def read(self) -> Tokens:
        counts = [source() for source in self.sources]
        if len(counts) == 1:
            return counts[0]
        fields = zip(*map(msgspec.structs.astuple, counts), strict=True)
        return Tokens(*map(sum, fields))

    def __enter__(self) -> "Meter":
        self._account.running[self._number] = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._account.running.pop(self._number, None) is not None:
            self._account.end(self._number, self.read())

"""Fetches the counts of this router's requests from the engines."""

import asyncio
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import msgspec

from serving.engine_protocol import USAGE_PATH, EngineUsage, bearer
from serving.router.ledger.open_entry import Attempt
from serving.router.replicas.replica import Replica
from serving.router.replicas.upstream import UpstreamError, ask

_decode = msgspec.json.Decoder(EngineUsage).decode

_TIMEOUT_S = 2.0


class EngineCounts:
    """The attempts whose final counts are still to come."""

    def __init__(self, router: str, engine_token: str) -> None:
        self._head = b"GET %b?router=%b&after=%%d HTTP/1.1\r\nhost: engine\r\n" % (
            USAGE_PATH.encode(),
            router.encode(),
        )
        self._authorization = b"authorization: %b\r\n\r\n" % bearer(engine_token)
        self._awaited: dict[Replica, dict[int, Attempt]] = {}
        self._last: WeakKeyDictionary[Replica, int] = WeakKeyDictionary()
        self._unconfirmed: set[Replica] = set()
        """Replicas that are to learn that their last counts have arrived."""

    def await_(self, attempt: Attempt) -> None:
        self._awaited.setdefault(attempt.replica, {})[attempt.number] = attempt

    def forget(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            awaited = self._awaited.get(attempt.replica, {})
            awaited.pop(attempt.number, None)
            if not awaited:
                self._awaited.pop(attempt.replica, None)

    async def fetch(self) -> None:
        """Updates the counts of all awaited attempts. An engine that does not answer is asked again
        next time."""
        await asyncio.gather(*map(self._fetch, self._awaited.keys() | self._unconfirmed))

    async def _fetch(self, replica: Replica) -> None:
        self._unconfirmed.discard(replica)
        head = self._head % self._last.get(replica, 0) + self._authorization
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                usage = _decode((await ask(replica.pool, head, b""))[1])
        except (TimeoutError, UpstreamError, msgspec.DecodeError):
            return
        self._last[replica] = usage.last
        if usage.ended:
            self._unconfirmed.add(replica)
        awaited = self._awaited.get(replica, {})
        for number, tokens in usage.running.items():
            if (attempt := awaited.get(number)) is not None:
                attempt.tokens = tokens
        for number, tokens in usage.ended.items():
            if (attempt := awaited.pop(number, None)) is not None:
                attempt.tokens, attempt.is_final = tokens, True

"""Access control of an engine's port: only the cluster's routers are admitted, and none while the
replica drains; Prometheus always is."""

import asyncio
import contextlib
import hmac
import logging
import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.asgi import Headers, send_response
from serving.engine.last_steps import EngineDeathError
from serving.engine_protocol import (
    DEAD,
    DEATH,
    DRAIN_LEFT,
    DRAINING,
    HEALTH_PATH,
    SUSPECTS,
    UNAVAILABLE,
    USAGE_PATH,
    bearer,
)
from serving.poison import Reason

log = logging.getLogger(__name__)


class AccessMiddleware:
    """ASGI middleware around the engine's application.

    - `GET /metrics` is answered at all times to anyone who can reach the port: Prometheus cannot
      get the token, and the metrics contain nothing of requests.
    - All other requests without the bearer `token` get a 401 that reveals nothing.
    - `GET /usage` is answered as well while the replica drains and when the engine is dead, so that
      routers learn what the last requests used.
    - While the replica drains, and once the engine is dead, the answer is a 503 whose header
      `x-engine-unavailable` says which: the router may try another replica. Of a dead engine it
      says why it died, and whether this request was in its last steps. An answer that has begun
      when the engine dies is left without an end.
    - The header `x-engine-drain-left-s` says when answers are cut off: while the replica drains,
      and with health checks before that, from when it is known that its node goes.
    """

    def __init__(self, app: ASGIApp, token: str, death: Callable[[], Reason | None]) -> None:
        """`death` returns why the engine died, or None."""
        self.in_flight = 0
        self._app = app
        self._authorization = bearer(token)
        self._death = death
        self._draining = False
        self._ends_s = math.inf
        """When the answers that are left are cut off, by time.monotonic()."""
        self._drain_changed = asyncio.Event()

    async def drain(self, timeout_s: float) -> int:
        """Rejects new requests and waits for those in progress. Returns how many were left at the
        timeout."""
        self._draining = True
        self.end_within(timeout_s)
        while self.in_flight and (left_s := self._ends_s - time.monotonic()) > 0:
            self._drain_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._drain_changed.wait()
        return self.in_flight

    def end_within(self, left_s: float) -> None:
        """Has answers end within that time at the latest, whether the replica drains yet or is
        about to. The soonest end counts."""
        self._ends_s = min(self._ends_s, time.monotonic() + left_s)
        self._drain_changed.set()

    @property
    def _time_left(self) -> Headers:
        if self._ends_s == math.inf:
            return []
        return [(DRAIN_LEFT, b"%d" % max(0, int(self._ends_s - time.monotonic())))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_scrape(scope):
            await self._app(scope, receive, send)
        elif not self._authorized(scope["headers"]):
            await _refuse(send, 401, [(b"www-authenticate", b"Bearer")])
        elif scope["path"] == USAGE_PATH:
            await self._app(scope, receive, send)
        elif self._draining:
            await _refuse(send, 503, [(UNAVAILABLE, DRAINING), *self._time_left])
        elif (reason := self._death()) is not None:
            await _refuse(send, 503, _of_death(reason, 0))
        elif scope["path"] == HEALTH_PATH:
            await self._admit(scope, receive, _with_headers(send, self._time_left))
        else:
            await self._admit(scope, receive, send)

    def _authorized(self, headers: Headers) -> bool:
        for name, value in headers:
            if name == b"authorization":
                return hmac.compare_digest(value, self._authorization)
        return False

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        self.in_flight += 1
        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            # The server cuts the connection of an answer that has begun, rather than end it.
            reason = self._death()
            if begun or reason is None:
                raise
            log.error("a request failed with its engine: %r", error)
            suspects = error.suspects if isinstance(error, EngineDeathError) else 0
            await _refuse(send, 503, _of_death(reason, suspects))
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._drain_changed.set()


def _of_death(reason: Reason, suspects: int) -> Headers:
    return [(UNAVAILABLE, DEAD), (DEATH, reason.encode()), (SUSPECTS, b"%d" % suspects)]


def _with_headers(send: Send, headers: Headers) -> Send:
    """Returns a `send` that adds headers to a response."""

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return noted


def _is_scrape(scope: Scope) -> bool:
    return bool(scope["path"] == "/metrics" and scope["method"] == "GET")


async def _refuse(send: Send, status: int, headers: Headers) -> None:
    await send_response(send, status, [*headers, (b"content-length", b"0")], b"")

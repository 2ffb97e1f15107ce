"""Shows the clients of streams, and the proxies before them, that they are still being served."""

import asyncio
import time

from serving.router.http.server import response_of
from serving.router.proxy.exchange import Exchange
from serving.router.proxy.request import GENERATING

PERIOD_S = 15.0
"""A quarter of the idle time-out that AWS' load balancers and nginx have by default."""
NOT_BUFFERED = (b"x-accel-buffering", b"no")
"""The header by which nginx passes on each event at once."""
_COMMENT = b": waiting\n\n"
"""A comment by the rules of server-sent events, which clients ignore."""


class Waiting:
    """Sends comments to clients that wait for a stream to begin, or to continue.

    The first comment commits the response to a 200. An error after that is an event.
    """

    def __init__(self) -> None:
        self._due_s: dict[Exchange, float] = {}
        """When each gets its next comment, by time.monotonic(), in this order."""
        self._timer: asyncio.TimerHandle | None = None
        """One for all, as one for each request would take longer than the rest of this."""
        self._sending: set[asyncio.Task[None]] = set()

    def begin(self, exchange: Exchange) -> None:
        """Sends a comment every PERIOD_S from now on, if the client asked for a stream."""
        record = exchange.record
        if record.stream and record.path in GENERATING and exchange not in self._due_s:
            self._due_s[exchange] = time.monotonic() + PERIOD_S
            self._set_timer()

    def end(self, exchange: Exchange) -> None:
        self._due_s.pop(exchange, None)

    def _set_timer(self) -> None:
        if self._timer is None and self._due_s:
            in_s = next(iter(self._due_s.values())) - time.monotonic()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.001, in_s), self._send_due)

    def _send_due(self) -> None:
        now_s = time.monotonic()
        for exchange in [one for one, due_s in self._due_s.items() if due_s <= now_s]:
            del self._due_s[exchange]
            self._due_s[exchange] = now_s + PERIOD_S
            task = asyncio.create_task(self._send(exchange))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._timer = None
        self._set_timer()

    async def _send(self, exchange: Exchange) -> None:
        response = response_of(exchange.send)
        waits = exchange in self._due_s and not exchange.resumption.within_event
        # While writing is paused, `send` would wait, and what it sends could come too late.
        if not waits or response.flow.write_paused:
            return
        if not response.response_started:
            content_type = (b"content-type", b"text/event-stream; charset=utf-8")
            headers = [content_type, NOT_BUFFERED, *exchange.headers]
            await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": _COMMENT, "more_body": True})

"""Shows the client of a stream, and the proxies before it, that it is still being served."""

import asyncio
from typing import TYPE_CHECKING

from serving.router.http.server import response_of
from serving.router.proxy.request import GENERATING

if TYPE_CHECKING:
    from serving.router.proxy.exchange import Exchange

PERIOD_S = 15.0
"""A quarter of the idle time-out that AWS' load balancers and nginx have by default."""
_COMMENT = b": waiting\n\n"
"""A comment by the rules of server-sent events, which clients ignore."""
NOT_BUFFERED = (b"x-accel-buffering", b"no")
"""The header by which nginx passes on each event at once."""


class Waiting:
    """Sends comments to a client that waits for a stream to begin, or to continue.

    The first comment commits the response to a 200. An error after that is an event.
    """

    __slots__ = ("_exchange", "_sending", "_timer")

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Sends a comment every PERIOD_S from now on, if the client asked for a stream."""
        record = self._exchange.record
        if self._timer is None and record.stream and record.path in GENERATING:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._due)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._due)
        self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        exchange = self._exchange
        response = response_of(exchange.send)
        # While writing is paused, `send` would wait, and what it sends could come too late.
        if self._timer is None or response.flow.write_paused or exchange.resumption.within_event:
            return
        if not response.response_started:
            content_type = (b"content-type", b"text/event-stream; charset=utf-8")
            headers = [content_type, NOT_BUFFERED, *exchange.headers]
            await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": _COMMENT, "more_body": True})

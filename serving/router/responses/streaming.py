"""Sends the events of a response in the background to a client."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.asgi import Headers, disconnected
from serving.router.responses.store import StoreError

HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
]


class EventsResponse(Response):
    """Streams events until they end or the client leaves."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await tell(self._events, [], receive, send)


async def tell(
    events: AsyncIterator[bytes], headers: Headers, receive: Receive, send: Send
) -> None:
    """Sends events until they end or the client leaves. If the events raise StoreError the response
    has no proper end, by which the client knows that there are more."""
    gone = asyncio.ensure_future(disconnected(receive))
    sending = asyncio.ensure_future(_send(events, [*HEADERS, *headers], send))
    try:
        await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
    finally:
        gone.cancel()
        sending.cancel()
        await asyncio.gather(gone, sending, return_exceptions=True)


async def _send(events: AsyncIterator[bytes], headers: Headers, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        async for some in events:
            await send({"type": "http.response.body", "body": some, "more_body": True})
    except StoreError:
        return
    await send({"type": "http.response.body", "body": b""})

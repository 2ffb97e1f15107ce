"""Sends the events of a response in the background to a client."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from starlette.responses import StreamingResponse
from starlette.types import Send

from serving.router.responses.store import StoreError


class EventsResponse(StreamingResponse):
    """Streams events until they end or the client leaves. If the events raise StoreError the
    response has no proper end, by which the client knows that there are more."""

    def __init__(
        self, events: AsyncIterator[bytes], headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(events, media_type="text/event-stream")
        self.raw_headers += [(b"x-accel-buffering", b"no"), *headers]

    async def stream_response(self, send: Send) -> None:
        with suppress(StoreError):
            await super().stream_response(send)

"""A response that the router runs to its end for a client that does not wait."""

import asyncio
from typing import Any

import msgspec
from starlette.types import Message

from serving.asgi import Headers, header
from serving.router.http.http10 import unchunked
from serving.router.responses.event_log import EventLog
from serving.router.responses.objects import encoded
from serving.router.responses.store import Key, StoredResponse
from serving.tenants import Caller

SCOPE_KEY = "mistral_serve.run"
"""The key of a `BackgroundRun` in an ASGI scope, which this router has taken over."""


class RunRequest(msgspec.Struct):
    """What another router needs to run a response."""

    body: bytes
    """The body as the client sent it."""
    headers: Headers
    """Headers without credentials."""
    key_id: str | None
    max_priority: int
    """The highest priority that the client may ask for."""


class BackgroundRun:
    """Stands where the client of a request would: its answer is collected, and whoever cancels the
    run is the client that disconnects. It is also its own transport, as a stream writes to that
    (`serving.router.http.server.response_of`)."""

    write_paused = False

    def __init__(
        self,
        owner: str,
        tenant: str,
        queued: dict[str, Any],
        kept_input: bytes,
        log: EventLog | None = None,
    ) -> None:
        """`log` takes the events of a stream."""
        self.key: Key = (tenant, queued["id"])
        self.response = queued
        """The response object as it was stored last."""
        self.kept_input = kept_input
        self.log = log
        self.caller: Caller | None = None
        """On whose behalf a router runs it that has taken it over."""
        self.client: asyncio.Task[None] | None = None
        """Tells the client that began it of its events."""
        self.response_started = False
        self.status = 0
        self.is_too_large = False
        self.stopped_by_router = False
        self.flow = self.transport = self
        self._owner = owner
        self._streams = False
        self._pieces: list[bytes] = []
        self._aborted = asyncio.Event()

    @property
    def stored(self) -> StoredResponse:
        return StoredResponse(
            *self.key,
            self.response["status"],
            self.kept_input,
            encoded(self.response),
            self.response["previous_response_id"],
            background=True,
            owner=self._owner,
        )

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    @property
    def aborted(self) -> bool:
        return self._aborted.is_set()

    def abort(self, stopped_by_router: bool = False) -> None:
        """Ends the request as if its client had disconnected."""
        self.stopped_by_router = stopped_by_router
        self._aborted.set()

    def leave(self) -> None:
        """Leaves the response, and its client, to another router, as this one stops."""
        self.abort(stopped_by_router=True)
        if self.client is not None:
            self.client.cancel()

    def goes_on(self) -> None:
        """Says that the stream has begun already, at another router."""
        self.response_started = self._streams = True
        self.status = 200

    async def receive(self) -> Message:
        await self._aborted.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.response_started = True
            self.status = message["status"]
            content_type = header(message["headers"], b"content-type") or b""
            self._streams = content_type.startswith(b"text/event-stream")
        else:
            self._take(message.get("body", b""))

    def write(self, chunks: bytes) -> None:
        self._take(unchunked(chunks))

    def is_closing(self) -> bool:
        return self.aborted

    def _take(self, data: bytes) -> None:
        if self.log is not None and self._streams:
            self.log.feed(data)
        else:
            self._pieces.append(data)

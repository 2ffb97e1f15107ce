"""A response that the router runs to its end for a client that does not wait."""

import asyncio
from typing import Any

import msgspec
from starlette.types import Message

from serving.asgi import Headers, header
from serving.router.http.http10 import unchunked
from serving.router.http.in_process import Client
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


class BackgroundRun(Client):
    """A client that has its answer stored. Whoever cancels the run is the client that disconnects.
    It is also its own transport, as a stream writes to that
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
        super().__init__()
        self.key: Key = (tenant, queued["id"])
        self.response = queued
        """The response object as it was stored last."""
        self.kept_input = kept_input
        self.log = log
        self.caller: Caller | None = None
        """On whose behalf a router runs it that has taken it over."""
        self.client: asyncio.Task[None] | None = None
        """Tells the client that began it of its events."""
        self.is_too_large = False
        self.stopped_by_router = False
        self.flow = self.transport = self
        self._owner = owner
        self._streams = False

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
    def aborted(self) -> bool:
        return self.left.is_set()

    def abort(self, stopped_by_router: bool = False) -> None:
        """Ends the request as if its client had disconnected."""
        self.stopped_by_router = stopped_by_router
        self.left.set()

    def leave(self) -> None:
        """Leaves the response, and its client, to another router, as this one stops."""
        self.abort(stopped_by_router=True)
        if self.client is not None:
            self.client.cancel()

    def goes_on(self) -> None:
        """Says that the stream has begun already, at another router."""
        self.response_started = self._streams = True
        self.status = 200

    async def send(self, message: Message) -> None:
        await super().send(message)
        if message["type"] == "http.response.start":
            content_type = header(self.headers, b"content-type") or b""
            self._streams = content_type.startswith(b"text/event-stream")

    def write(self, chunks: bytes) -> None:
        self.take(unchunked(chunks))

    def is_closing(self) -> bool:
        return self.aborted

    def take(self, data: bytes) -> None:
        if self.log is not None and self._streams:
            self.log.feed(data)
        else:
            super().take(data)

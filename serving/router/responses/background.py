"""A response that the router runs to its end for a client that does not wait."""

import asyncio
from typing import Any

from starlette.types import Message

from serving.router.responses.objects import encoded

Key = tuple[str, str]
"""The tenant and id of a response."""


class BackgroundRun:
    """Stands where the client of a request would: its answer is collected, and whoever cancels the
    run is the client that disconnects."""

    def __init__(self, tenant: str, queued: dict[str, Any], kept_input: bytes) -> None:
        self.key: Key = (tenant, queued["id"])
        self.response = queued
        """The response object as it was stored last."""
        self.kept_input = kept_input
        self.response_started = False
        self.status = 0
        self.stopped_by_router = False
        self._pieces: list[bytes] = []
        self._aborted = asyncio.Event()

    def body_of_response(self) -> bytes:
        return encoded(self.response)

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

    async def receive(self) -> Message:
        await self._aborted.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.response_started = True
            self.status = message["status"]
        else:
            self._pieces.append(message.get("body", b""))

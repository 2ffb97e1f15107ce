"""Requests to the router's own relay, without HTTP in between."""

import asyncio
from typing import Any

from starlette.types import Message, Scope

from serving.asgi import Headers


def scope_of(path: str, headers: Headers, more: dict[str, Any]) -> Scope:
    """Returns the ASGI scope of a POST to `path`, with the keys in `more`."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        **more,
    }


class Client:
    """Stands where the client of a request would, and collects the answer."""

    def __init__(self, request: bytes | None = None) -> None:
        self.request = request
        """The body that it has still to send."""
        self.response_started = False
        self.status = 0
        self.headers: Headers = []
        self.left = asyncio.Event()
        """Set when it disconnects, as if it did not want the answer any more."""
        self._pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    async def receive(self) -> Message:
        if self.request is not None:
            body, self.request = self.request, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.response_started = True
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.take(message.get("body", b""))

    def take(self, data: bytes) -> None:
        """Takes a piece of the answer's body."""
        self._pieces.append(data)

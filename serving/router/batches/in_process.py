"""Sends the lines of a batch to the router's own relay, without HTTP in between."""

import asyncio
from typing import Any

import httpx
from starlette.types import ASGIApp, Message

from serving.asgi import Headers
from serving.router.batches.line import SCOPE_KEY, BatchLine


class InProcess(httpx.AsyncBaseTransport):
    """A transport for httpx. A request that is cancelled is one whose client has left."""

    def __init__(self, relay: ASGIApp, line: BatchLine) -> None:
        self._relay = relay
        self._line = line

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            SCOPE_KEY: self._line,
        }
        client = _Client(await request.aread())
        await self._relay(scope, client.receive, client.send)
        if not client.response_started:
            raise httpx.ReadError("the router ended the request without an answer")
        return httpx.Response(client.status, headers=client.headers, content=client.body)


class _Client:
    """Stands where the client of a request would."""

    def __init__(self, body: bytes) -> None:
        self.response_started = False
        self.status = 0
        self.headers: Headers = []
        self._request: bytes | None = body
        self._pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    async def receive(self) -> Message:
        body, self._request = self._request, None
        if body is None:
            await asyncio.Event().wait()  # It stays until it is answered.
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.response_started = True
            self.status, self.headers = message["status"], message["headers"]
        else:
            self._pieces.append(message.get("body", b""))

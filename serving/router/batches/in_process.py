"""Sends the lines of a batch to the router's own relay."""

import httpx
from starlette.types import ASGIApp

from serving.router.batches.line import SCOPE_KEY, BatchLine
from serving.router.http.in_process import Client, scope_of


class InProcess(httpx.AsyncBaseTransport):
    """A transport for httpx. A request that is cancelled is one whose client has left."""

    def __init__(self, relay: ASGIApp, line: BatchLine) -> None:
        self._relay = relay
        self._line = line

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = [(b"content-type", b"application/json")]
        client = Client(await request.aread())
        scope = scope_of(request.url.path, headers, {SCOPE_KEY: self._line})
        await self._relay(scope, client.receive, client.send)
        if not client.response_started:
            raise httpx.ReadError("the router ended the request without an answer")
        return httpx.Response(client.status, headers=client.headers, content=client.body)

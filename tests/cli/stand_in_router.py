"""A router for tests of `deploy`, with streamed chat answers that are good or bad as a test
says."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.http_server import (
    BackgroundServer,
    Connection,
    Request,
    json_response,
    response,
)
from tests.support.stand_in_engine import DONE, server_sent


@dataclass(frozen=True)
class Manner:
    """The way it answers: a `status` other than 200 rejects, `cut` ends a stream in its middle."""

    models: tuple[str, ...]
    status: int = 200
    ttft_s: float = 0.0
    cut: bool = False

    def answer(self, request: Request) -> bytes:
        if request.method == b"GET":
            data = [{"id": each, "object": "model"} for each in self.models]
            return json_response({"object": "list", "data": data})
        if self.status != 200:
            return json_response({"error": {"message": "no", "type": "server_error"}}, self.status)
        event = {"choices": [{"index": 0, "delta": {"content": "Paris"}}]}
        return response(server_sent(event) + (b"" if self.cut else DONE))


@contextmanager
def router(manner: Callable[[], Manner]) -> Iterator[str]:
    """Yields its URL while the context is open; `manner` is called for each request."""

    class Router(Connection):
        def receive(self, request: Request) -> None:
            now = manner()
            delay_s = now.ttft_s if request.method == b"POST" else 0.0
            write = self.transport.write
            asyncio.get_running_loop().call_later(delay_s, write, now.answer(request))

    with BackgroundServer(Router) as server:
        yield server.url

"""A service for batch tests: answers by script, in a thread of its own so that it can serve the
test's own event loop, or a command in another process. It can die and come back.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.stand_in_engine import StandInEngine, serve


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes | None = None
    """A chat completion, or an error object of OpenAI's shape, if not given."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, prompt: str) -> bytes:
        body = completion(prompt) if self.status == 200 else error(f"status {self.status}")
        if self.body is not None:
            body = self.body
        headers = {"x-request-id": f"req-{prompt}", "content-length": len(body), **self.headers}
        head = f"HTTP/1.1 {self.status} X\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )
        return head.encode() + b"\r\n" + body


BREAK = Reply(status=0)
"""The connection is cut instead of an answer."""
HOLD = Reply(status=-1)
"""No answer comes while the service lives."""

Script = Mapping[str, Sequence[Reply]]
"""The replies to a prompt, one a try; when they are used up, and without any, a completion."""


def completion(prompt: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": prompt.upper()}}
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()


class _Connection(StandInEngine):
    service: "StandInService"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.service.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.service.connections.discard(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self.service.keys.add(value.decode())

    def on_message_complete(self) -> None:
        if self.parser.get_method() == b"GET":
            self.transport.write(self.service.models.encode(""))
        else:
            super().on_message_complete()

    def respond(self, request: dict[str, Any]) -> None:
        prompt = request["messages"][0]["content"]
        self.service.asked.append(prompt)
        replies = self.service.script.get(prompt, ())
        tries = self.service.asked.count(prompt)
        reply = replies[tries - 1] if tries <= len(replies) else Reply()
        if reply is BREAK:
            self.transport.abort()
        elif reply is not HOLD:
            self.transport.write(reply.encode(prompt))


class StandInService:
    """`asked` has the prompts in the order in which they came, `keys` what authorised them."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, script: Script, models: Reply, port: int
    ) -> None:
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._behaviour = type("_", (_Connection,), {"service": self})
        self.script = script
        self.models = models
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.connections: set[_Connection] = set()
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def live(self) -> None:
        asyncio.run_coroutine_threadsafe(self._live(), self._loop).result()

    def die(self) -> None:
        asyncio.run_coroutine_threadsafe(self._die(), self._loop).result()

    async def _live(self) -> None:
        self._server = await serve(self.port, self._behaviour)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _die(self) -> None:
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.transport.abort()
            await self._server.wait_closed()
            self._server = None


@contextlib.contextmanager
def serving(
    script: Script | None = None, models: Reply | None = None, port: int = 0
) -> Iterator[StandInService]:
    """`models` is the reply to GET /v1/models; without `port` it is a free one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    service = StandInService(loop, script or {}, models or Reply(body=b'{"data": []}'), port)
    try:
        service.live()
        yield service
        service.die()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def request_line(custom_id: str, **fields: Any) -> bytes:
    """A line of a batch's input whose prompt is its custom_id."""
    body = {"model": "small", "messages": [{"role": "user", "content": custom_id}]}
    line = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }
    return json.dumps(line | fields).encode() + b"\n"

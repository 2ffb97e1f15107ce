"""Engines for the router's tests: stand-ins that record their requests, some with a fault.

Each subclass is an engine with its own state; an instance is one connection to it.
"""

import asyncio
from typing import Any, TypeVar, cast

from tests.support.http_server import Request
from tests.support.stand_in_engine import OK_HEAD, STREAM_HEAD, StandInEngine, chunk

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nx-engine-unavailable: draining\r\n"


class Engine(StandInEngine):
    """Answers as the stand-in does, and records what it received."""

    listens = True
    received: list[Request]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.received = []

    def receive(self, request: Request) -> None:
        if request.body:
            self.received.append(request)
        super().receive(request)


E = TypeVar("E", bound=Engine)


def fresh(behaviour: type[E]) -> type[E]:
    """Returns a new engine of that behaviour."""
    return cast(type[E], type(behaviour.__name__, (behaviour,), {}))


class Steered(Engine):
    """Leaves each request to the test: `asked` returns the connection that it came on."""

    _asked: asyncio.Queue["Steered"]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._asked = asyncio.Queue()

    @classmethod
    async def asked(cls) -> "Steered":
        async with asyncio.timeout(30):
            return await cls._asked.get()

    def respond(self, request: dict[str, Any]) -> None:
        self.request = request
        self._asked.put_nowait(self)

    def proceed(self) -> None:
        """Answers as the stand-in does."""
        super().respond(self.request)

    def begin_stream(self, *events: bytes) -> None:
        self.transport.write(STREAM_HEAD + b"".join(map(chunk, events)))

    def send(self, data: bytes) -> None:
        self.transport.write(chunk(data))

    def end_stream(self) -> None:
        self.transport.write(b"0\r\n\r\n")


class Refuses(Engine):
    listens = False


class ResetsBeforeHead(Engine):
    def respond(self, request: dict[str, Any]) -> None:
        self.reset()


class ResetsAfterHead(Engine):
    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(_head_of(request))
        self.reset()


class ClosesAfterHead(Engine):
    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(_head_of(request))
        self.transport.close()


class IsUnavailable(Engine):
    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(UNAVAILABLE + b"content-length: 0\r\n\r\n")


class IsUnavailableAndSaysWhy(Engine):
    """Sends a response body that nobody reads and that must not reach the next client."""

    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(UNAVAILABLE + b"content-length: 8\r\n\r\ndraining")


class IsOfAnotherCluster(Engine):
    """Rejects this router's token."""

    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")


class TalksNoHttp(Engine):
    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n")


class ClosesIdleConnections(Engine):
    """Closes each connection after its first answer, unannounced."""

    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(self.answer(request))
        self.transport.close()


class ClosesOnSecondRequest(Engine):
    """Simulates a close that crosses the next request on the wire."""

    answered = False

    def respond(self, request: dict[str, Any]) -> None:
        if self.answered:
            self.reset()
        else:
            self.answered = True
            super().respond(request)


class Endless(Engine):
    """Streams without end, as fast as it is read. `sent_bytes` counts what the kernel accepted."""

    sent_bytes = 0

    async def stream(self, request: dict[str, Any]) -> None:
        event = chunk(b"data: " + b"x" * 65536 + b"\n\n")
        self.transport.write(STREAM_HEAD)
        while True:
            await self.send_and_drain(event)
            type(self).sent_bytes += len(event)


def _head_of(request: dict[str, Any]) -> bytes:
    if request.get("stream"):
        return STREAM_HEAD
    return OK_HEAD % b"application/json" + b"content-length: 100\r\n\r\n"


BEFORE_FIRST_BYTE = [
    Refuses,
    ResetsBeforeHead,
    ResetsAfterHead,
    ClosesAfterHead,
    IsUnavailable,
    IsUnavailableAndSaysWhy,
    IsOfAnotherCluster,
    TalksNoHttp,
]
"""Engines that fail before the client has a byte of the answer."""

"""HTTP servers whose answers a test writes byte by byte.

Each subclass of `Connection` is a server with its own state, in class attributes; an instance is
one connection to it.
"""

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import httptools
import uvloop

T = TypeVar("T")
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Request:
    """A request as received."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Returns the value of the header `name`, which must be in lower case."""
        return {key.lower(): value for key, value in self.headers}.get(name)


class Connection(asyncio.Protocol):
    """Parses requests. `receive` answers them."""

    connections: set["Connection"]
    """All open connections."""
    accepted: int
    """The number of connections accepted so far."""
    listening: asyncio.Server

    def __init_subclass__(cls) -> None:
        cls.connections = set()
        cls.accepted = 0

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.parser = httptools.HttpRequestParser(self)
        self.latest: Request
        self.task: asyncio.Task[None] | None = None
        """The task that writes the answer; cancelled when the connection is lost."""
        self.closed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    def receive(self, request: Request) -> None:
        raise NotImplementedError

    async def send_and_drain(self, data: bytes) -> None:
        """Writes `data` and waits until the client has read enough for more."""
        self.transport.write(data)
        await self._writable.wait()
        await asyncio.sleep(0)

    def reset(self) -> None:
        """Closes the connection with a TCP reset."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        type(self).accepted += 1
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.closed.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method, body = self.parser.get_method(), b"".join(self._body)
        self.latest = Request(method, self._target, self._headers, body)
        self._target, self._headers, self._body = b"", [], []
        self.receive(self.latest)


def answering(answer: Callable[[Request], bytes | None]) -> type[Connection]:
    """Returns a server whose responses `answer` makes. For b"" the client keeps waiting, for None
    the connection is closed."""

    class Answering(Connection):
        def receive(self, request: Request) -> None:
            data = answer(request)
            if data is None:
                self.transport.close()
            elif request.method == b"HEAD":
                self.transport.write(data[: data.index(b"\r\n\r\n") + 4])
            else:
                self.transport.write(data)

    return Answering


def response(
    body: bytes = b"", status: int = 200, headers: Mapping[str, object] | None = None
) -> bytes:
    """Returns an HTTP response; `headers` may replace its content-length."""
    fields = {"content-length": len(body)} | dict(headers or {})
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def json_response(
    document: Any, status: int = 200, headers: Mapping[str, object] | None = None
) -> bytes:
    fields = {"content-type": "application/json"} | dict(headers or {})
    return response(json.dumps(document).encode(), status, fields)


async def serve(
    server: type[Connection],
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    sock: socket.socket | None = None,
) -> asyncio.Server:
    """Listens on `port` of 127.0.0.1, or on the bound socket `sock`."""
    sock = sock or socket.create_server(("127.0.0.1", port))
    server.listening = await asyncio.get_running_loop().create_server(server, sock=sock, ssl=tls)
    return server.listening


def port_of(listening: asyncio.Server) -> int:
    return int(listening.sockets[0].getsockname()[1])


async def stop(server: type[Connection], listening: asyncio.Server) -> None:
    """Stops listening and resets the connections."""
    listening.close()
    for connection in list(server.connections):
        connection.transport.abort()
    await listening.wait_closed()


@asynccontextmanager
async def running(
    server: type[Connection],
    tls: ssl.SSLContext | None = None,
    sock: socket.socket | None = None,
) -> AsyncIterator[int]:
    """Serves in the test's event loop, and yields the port."""
    listening = await serve(server, tls=tls, sock=sock)
    try:
        yield port_of(listening)
    finally:
        await stop(server, listening)


class BackgroundServer:
    """Serves in a background thread within the context. It can stop and start again on the same
    port."""

    def __init__(self, server: type[Connection], port: int = 0) -> None:
        self.port = port
        self._server = server
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._listening = self._call(serve(self._server, self.port))
        self.port = port_of(self._listening)

    def stop(self) -> None:
        if self._listening is not None:
            self._call(stop(self._server, self._listening))
            self._listening = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

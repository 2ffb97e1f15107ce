"""A server that stops fails no request that is on its way to it."""

import asyncio
import hashlib
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.router.http.server import HttpServer, listening_socket
from tests.support.waiting import eventually

KNOWN = {
    HttpToolsProtocol.__init__: (
        "it must take config, server_state and app_state, and share its flow with its cycles",
        "4f08999410347141",
    ),
    HttpToolsProtocol.connection_made: (
        "it must add the connection to the server's and set transport and flow",
        "6efb565ff3d36b91",
    ),
    HttpToolsProtocol.data_received: (
        "it must feed the parser, answer what that refuses, and no more",
        "010a7ae59a5d3b1a",
    ),
    HttpToolsProtocol.on_message_complete: (
        "it must read nothing of a request but its cycle",
        "1fbad42dc31fc01f",
    ),
    uvicorn.Server.main_loop: (
        "it must call `on_tick` ten times a second, with a number that rises by one",
        "afccb353a119333f",
    ),
    HttpToolsProtocol.on_headers_complete: (
        "it must take `default_headers` from its `server_state` at each request",
        "1ea8589acfad92d8",
    ),
    HttpToolsProtocol.on_response_complete: (
        "it must close a connection that is not kept alive, and begin the next request",
        "64e254f28e389e76",
    ),
    ServerState: ("it must have no further fields", "f2260fbf10154746"),
    RequestResponseCycle.send: (
        "it must write to `transport` the head in one piece and each body as one chunk, and wait "
        "while writing is paused",
        "abdd8601b326a8da",
    ),
    uvicorn.Server.startup: (
        "`servers` must be asyncio's, one for each socket",
        "2aa1d70a244bfcf2",
    ),
    uvicorn.Server.shutdown: (
        "with `force_exit` it must wait for no connection",
        "9b33c50562992b1e",
    ),
}
"""The parts of uvicorn that the server relies on: what must hold, and the digest of their
source."""

REQUEST = b"GET / HTTP/1.1\r\nhost: router\r\n\r\n"
LINGER_S = 0.2


@pytest.mark.parametrize("thing", KNOWN, ids=lambda thing: thing.__qualname__)
def test_uvicorn_is_as_the_server_needs_it(thing: Callable[..., Any]) -> None:
    what, known = KNOWN[thing]
    digest = hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:16]
    assert digest == known, (
        f"uvicorn changed {thing.__module__}.{thing.__qualname__}, on which the router's HTTP"
        f" server relies. Check that {what}; then its digest here is {digest}"
    )


class App:
    """Answers `hello`; for the path `/slow` only once `released`."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        if scope["path"] == "/slow":
            await self.released.wait()
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[HttpServer, Callable[[], socket.socket]]]:
    """Yields a server, and a function that connects to it without waiting for the event loop."""
    sock = listening_socket("127.0.0.1", 0)
    address = sock.getsockname()
    server = HttpServer(app, sock)
    running = asyncio.create_task(server.run_until_stopped())
    await eventually(lambda: server.started)
    try:
        yield server, lambda: socket.create_connection(address)
    finally:
        app.released.set()
        if not server.should_exit:
            await server.stop(0)
        await running


async def slow_request(app: App, connect: Callable[[], socket.socket]) -> socket.socket:
    """Returns the client of a request that the app has begun to answer."""
    client = connect()
    client.send(REQUEST.replace(b"/", b"/slow", 1))
    await eventually(lambda: app.asked)
    return client


async def read(client: socket.socket) -> bytes:
    """Reads until the server closes the connection."""
    client.setblocking(False)
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while piece := await loop.sock_recv(client, 65536):
            data += piece
    client.close()
    return data


async def test_connections_that_are_not_yet_accepted_are_answered() -> None:
    async with serving(App()) as (server, connect):
        clients = [connect() for _ in range(20)]
        for client in clients:
            client.send(REQUEST)
        await server.stop(5, LINGER_S)
        for client in clients:
            answer = await read(client)
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
        with pytest.raises(ConnectionRefusedError):
            connect()


async def test_requests_on_idle_connections_are_answered_and_told_to_close() -> None:
    app = App()
    async with serving(app) as (server, connect):
        asks, silent = connect(), connect()
        for client in (asks, silent):
            client.send(REQUEST)
        await eventually(lambda: app.asked == 2)
        stopping = asyncio.create_task(server.stop(5, LINGER_S))
        await eventually(lambda: not server.servers[0].is_serving())
        asks.send(REQUEST)
        first, _, second = (await read(asks)).partition(b"0\r\n\r\n")
        assert b"connection: close" not in first
        assert second.startswith(b"HTTP/1.1 200") and b"connection: close" in second
        assert (await read(silent)).count(b"HTTP/1.1 200") == 1
        await stopping


async def test_connections_move_once_with_their_next_answer_and_new_ones_stay() -> None:
    app = App()
    async with serving(app) as (server, connect):
        kept = connect()
        kept.send(REQUEST)
        await eventually(lambda: app.asked == 1)
        server.move_connections()
        comes = connect()
        kept.send(REQUEST)
        first, _, second = (await read(kept)).partition(b"0\r\n\r\n")
        assert b"connection: close" not in first
        assert second.startswith(b"HTTP/1.1 200") and b"connection: close" in second
        comes.send(REQUEST)
        await eventually(lambda: app.asked == 3)
        comes.send(REQUEST)
        await eventually(lambda: app.asked == 4)
        await server.stop(5, LINGER_S)
        assert (await read(comes)).count(b"connection: close") == 0


async def test_an_answer_that_goes_on_while_connections_move_is_finished() -> None:
    app = App()
    async with serving(app) as (server, connect):
        client = await slow_request(app, connect)
        server.move_connections()
        app.released.set()
        await server.stop(5, LINGER_S)
        assert (await read(client)).endswith(b"0\r\n\r\n")


async def test_an_answer_under_way_is_finished() -> None:
    app = App()
    async with serving(app) as (server, connect):
        client = await slow_request(app, connect)
        stopping = asyncio.create_task(server.stop(5, 0))
        await eventually(lambda: not server.servers[0].is_serving())
        app.released.set()
        await stopping
        assert (await read(client)).endswith(b"0\r\n\r\n")


async def test_it_stops_when_its_time_is_over() -> None:
    app = App()
    async with serving(app) as (server, connect):
        client = await slow_request(app, connect)
        async with asyncio.timeout(5):
            await server.stop(0.1)
        assert server.should_exit
        client.close()

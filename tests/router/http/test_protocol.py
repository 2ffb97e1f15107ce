"""What clients may send, how slowly, and that nobody takes a part of a request for another one."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serving.router.http import protocol
from serving.router.http.server import HttpServer
from tests.router.http.test_server import read, serving
from tests.support.waiting import eventually


class Echo:
    """Answers each request with what it received."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.asked: list[tuple[str, str, str]] = []
        self.bodies = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies += 1
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.asked.append((scope["method"], scope["path"], body.decode("latin-1")))
        if scope["path"] == "/slow":
            await self.released.wait()
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"Hi.\n"})


HOST = "Host: a\r\n"
END = "0\r\n\r\n"
CHUNKED = f"POST /a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"
NEXT = f"GET /stolen HTTP/1.1\r\n{HOST}\r\n"


def post(*headers: str, body: str = "abc", version: str = "1.1") -> str:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"POST /a HTTP/{version}\r\n{HOST}{lines}\r\n{body}"


SMUGGLED = {
    "a length and chunks": post("Content-Length: 5", "Transfer-Encoding: chunked", body=END),
    "chunks and a length": post("Transfer-Encoding: chunked", "Content-Length: 5", body=END),
    "two lengths": post("Content-Length: 3", "Content-Length: 4"),
    "a length twice": post("Content-Length: 3", "Content-Length: 3"),
    "a list of lengths": post("Content-Length: 3, 3"),
    "a signed length": post("Content-Length: +3"),
    "a negative length": post("Content-Length: -3"),
    "a hexadecimal length": post("Content-Length: 0x3"),
    "a length without digits": post("Content-Length: "),
    "a length that overflows": post("Content-Length: 99999999999999999999999"),
    "an unknown coding": post("Transfer-Encoding: xchunked"),
    "a coding around chunks": post("Transfer-Encoding: gzip, chunked", body=END),
    "a coding behind chunks": post("Transfer-Encoding: chunked, gzip", body=END),
    "chunks twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "chunks in HTTP/1.0": post("Transfer-Encoding: chunked", body=END, version="1.0"),
    "a space before a colon": post("Transfer-Encoding : chunked", body=END),
    "a control character": post("Transfer-Encoding: \x0bchunked", body=END),
    "a folded header": post("X: a\r\n b", "Content-Length: 3"),
    "a folded coding": post("Transfer-Encoding:\r\n chunked", body=END),
    "bare line feeds": f"POST /a HTTP/1.1\n{HOST}Content-Length: 3\n\nabc",
    "a bare line feed": post("X: a\nContent-Length: 3"),
    "a bare carriage return": post("X: a\rContent-Length: 3"),
    "a zero byte": post("X: a\0b", "Content-Length: 3"),
    "a line feed in a chunk's extension": CHUNKED + "3;a\nbc\r\nabc\r\n0\r\n\r\n",
    "line feeds around a chunk": CHUNKED + "3\nabc\n0\n\n",
    "a chunk whose size overflows": CHUNKED + "f" * 17 + "\r\nabc\r\n0\r\n\r\n",
    "a chunk's size with a prefix": CHUNKED + "0x3\r\nabc\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + "-3\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + "3\r\nabcde\r\n0\r\n\r\n",
    "a length behind chunks": CHUNKED + "0\r\nContent-Length: 5\r\n\r\n",
    "a space in a header's name": post("A b: c", "Content-Length: 3"),
    "a header without a name": post(": c", "Content-Length: 3"),
    "a space before the first header": f"POST /a HTTP/1.1\r\n {HOST}\r\n",
    "a URL with a space": f"GET /a b HTTP/1.1\r\n{HOST}\r\n",
    "a URL that is not ASCII": f"GET /\xe9 HTTP/1.1\r\n{HOST}\r\n",
    "another protocol's first line": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": f"GET /a HTTP/2.0\r\n{HOST}\r\n",
    "a tunnel": f"CONNECT a:80 HTTP/1.1\r\n{HOST}\r\n",
    "no host": "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    "two hosts": post("Host: b", "Content-Length: 3"),
    "no HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Echo, HttpServer, socket.socket]]:
    """An application, its server and a client that is connected to it."""
    app = Echo()
    async with serving(app) as (server, connect):
        yield app, server, connect()


def refusal(answer: bytes) -> tuple[int, str]:
    """Returns status and code of an answer, which must be a whole error of the API and the only
    answer on its connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert b"\r\ncontent-type: application/json" in head
    return int(head.split(b" ")[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_others_read_differently_is_refused_with_all_that_follows(name: str) -> None:
    async with talking() as (app, _, client):
        client.send((SMUGGLED[name] + NEXT).encode("latin-1"))
        status, code = refusal(await read(client))
        assert (status, code) in [(400, "invalid_http"), (501, "unsupported_transfer_encoding")]
        assert all(path != "/stolen" for _, path, _ in app.asked)


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (post("Content-Length: 3"), "abc"),
        (CHUNKED + "3\r\nabc\r\n2;name=value\r\nde\r\n0\r\nx: y\r\n\r\n", "abcde"),
        (post("Content-Length: 3", version="1.0").replace(HOST, ""), "abc"),
    ],
)
async def test_other_requests_are_taken(request_: str, body: str) -> None:
    async with talking() as (app, _, client):
        client.send(request_.encode())
        await eventually(lambda: app.asked)
        assert app.asked == [("POST", "/a", body)]
        client.close()


@pytest.mark.parametrize("pieces", ["whole", "head and body", "bytes"])
async def test_an_upgrade_is_not_made_and_hides_no_request(pieces: str) -> None:
    """Java's client asks for HTTP/2 so with each first request."""
    asking = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIA")
    request = post(*asking, f"Content-Length: {len(NEXT)}", body=NEXT)
    head, _, body = request.partition("\r\n\r\n")
    sent = {"whole": [request], "head and body": [head + "\r\n\r\n", body], "bytes": [*request]}
    async with talking() as (app, _, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in sent[pieces]:
            client.send(piece.encode())
            await asyncio.sleep(0)
        await eventually(lambda: app.asked)
        client.send(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\n")
        await eventually(lambda: len(app.asked) == 2)
        assert app.asked == [("POST", "/a", NEXT), ("GET", "/b", "")]
        client.close()


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (f"GET /{'a' * 20_000} HTTP/1.1\r\n{HOST}\r\n", 414, "url_too_long"),
        (post("X: " + "a" * 70_000), 431, "headers_too_large"),
        (post(*[f"X-{i}: a" for i in range(10_000)]), 431, "headers_too_large"),
    ],
)
async def test_a_head_is_bounded(request_: str, status: int, code: str) -> None:
    async with talking() as (app, _, client):
        client.send(request_.encode())
        assert refusal(await read(client)) == (status, code)
        assert app.asked == []


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        ("GET /", "a"),
        (f"GET / HTTP/1.1\r\n{HOST}X: ", "a"),
        (f"GET / HTTP/1.1\r\n{HOST}", "X: a\r\n"),
    ],
)
async def test_a_head_without_end_is_cut_off(begins: str, goes_on: str) -> None:
    async with talking() as (app, server, client):
        client.setblocking(False)
        endless = (begins + goes_on * 6_000_000).encode()
        with pytest.raises(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(client, endless)
        client.close()
        await eventually(lambda: server.connections == 0)
        assert app.asked == []


def overdue(server: HttpServer, after_s: float) -> None:
    """Has the server look at its connections so much later."""
    connections: list[Any] = list(server.server_state.connections)
    for connection in connections:
        connection.close_if_overdue(time.monotonic() + after_s)


@pytest.mark.parametrize(
    ("sent", "in_time_s", "late_s"),
    [
        (b"", 70, 76),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nX", 15, 21),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\na", 25, 31),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + b"a" * 160_000, 35, 41),
    ],
)
async def test_a_slow_client_is_cut_off(sent: bytes, in_time_s: float, late_s: float) -> None:
    async with talking() as (app, server, client):
        client.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(client, sent)
        await eventually(lambda: received(server) >= len(sent))
        overdue(server, in_time_s)
        await asyncio.sleep(0)
        assert server.connections == 1
        overdue(server, late_s)
        assert refusal(await read(client)) == (408, "request_timeout")
        assert app.asked == []


def received(server: HttpServer) -> int:
    connections: list[Any] = list(server.server_state.connections)
    return sum(one._received_bytes for one in connections) if connections else -1


async def test_an_answer_may_take_as_long_as_it_takes() -> None:
    async with talking() as (app, server, client):
        client.send(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        await eventually(lambda: app.asked)
        overdue(server, 10_000)
        app.released.set()
        assert (await read(client)).endswith(b"Hi.\n")


async def test_a_request_that_is_late_spoils_no_answer_before_it() -> None:
    async with talking() as (app, server, client):
        client.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\nGET /b HT")
        await eventually(lambda: app.asked)
        overdue(server, 10_000)
        assert await read(client) == b""


async def test_the_server_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.01)
    async with talking() as (_, _, client):
        client.send(b"GET /a HTTP/1.1\r\n")
        assert refusal(await read(client)) == (408, "request_timeout")


async def test_requests_that_wait_on_a_connection_are_bounded() -> None:
    app = Echo()
    async with serving(app) as (_, connect):
        client, flooding = connect(), connect()
        one = b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"
        client.send(one * 10)
        await eventually(lambda: app.bodies == 1)
        flooding.send(one * 1000)
        assert await read(flooding) == b""
        app.released.set()
        await eventually(lambda: len(app.asked) >= 10)
        client.close()


async def test_connections_beyond_the_limit_of_files_fail_and_the_others_go_on() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    app = Echo()
    async with serving(app) as (server, connect):
        clients = [connect() for _ in range(50)]
        await eventually(lambda: server.connections == 50)
        highest = max(client.fileno() for client in clients) + 60
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                for _ in range(200):
                    clients.append(connect())
            clients[0].send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n")
            await eventually(lambda: app.asked)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()

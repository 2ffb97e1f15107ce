"""Loading the images of requests: formats, limits, and messages to clients."""

import asyncio
import base64
import gzip
import io
from typing import Any

import pytest
from PIL import Image

from serving.engine.media import ImageFetcher, Limits
from tests.engine.pictures import PNG, data_url, encoded
from tests.engine.web import (
    PUBLIC,
    Handler,
    Names,
    Web,
    answer,
    load,
    picture,
    redirect,
    refused,
    running_web,
)
from tests.support.http_server import Connection
from tests.support.waiting import eventually


async def test_an_image_is_loaded_and_decoded(web: Web) -> None:
    size = await web.fetcher().load(
        web.url("/a.png"), lambda data: Image.open(io.BytesIO(data)).size
    )
    assert size == (3, 2)
    (request,) = web.requests
    assert request.address == PUBLIC
    assert request.headers["host"] == f"images.test:{web.port}"
    assert request.headers["user-agent"] == "mistral-serve"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("scheme", ["http", "data"])
async def test_the_four_formats(web: Web, format: str, scheme: str) -> None:
    image = encoded(format)
    web.routes["/b"] = picture(image, "application/octet-stream")
    url = web.url("/b") if scheme == "http" else data_url(image, "application/octet-stream;base64")
    assert await load(web.fetcher(), url) == image


async def test_the_query_arrives_as_it_was_sent(web: Web) -> None:
    target = "/a%2Fb/latest?cb=20220713111111&signature=x%2By%3D%26&t=a+b%20c"
    web.routes[target] = picture(PNG)
    assert await load(web.fetcher(), web.url(target)) == PNG


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_to_other_hosts_too(web: Web, status: int) -> None:
    web.routes["/1"] = redirect("/2?x=1", status)
    web.routes["/2?x=1"] = redirect(web.url("/a.png", "cdn.test"), status)
    fetcher = web.fetcher({"cdn.test": [PUBLIC]})
    assert await load(fetcher, web.url("/1")) == PNG
    assert web.targets == ["/1", "/2?x=1", "/a.png"]


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "application/octet-stream", "binary/octet-stream", None]
)
async def test_the_bytes_decide_where_the_content_type_says_little(
    web: Web, content_type: str | None
) -> None:
    headers = [f"Content-Type: {content_type}"] if content_type else []
    web.routes["/b"] = answer(PNG, *headers)
    assert await load(web.fetcher(), web.url("/b")) == PNG


async def test_a_chunked_body_without_a_length(web: Web) -> None:
    web.routes["/b"] = (
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(PNG), PNG)
    )
    assert await load(web.fetcher(), web.url("/b")) == PNG


@pytest.mark.parametrize(
    "url",
    [
        data_url(PNG),
        data_url(PNG, "image/png;charset=utf-8;base64"),
        data_url(PNG, "IMAGE/PNG;BASE64").replace("data:", "DATA:"),
        data_url(PNG, "image/jpeg;base64"),
        data_url(PNG, ";base64"),
        "data:image/png;base64," + base64.encodebytes(PNG).decode(),
    ],
    ids=["plain", "parameter", "upper case", "another image type", "no type", "wrapped lines"],
)
async def test_data_urls(url: str) -> None:
    assert await load(ImageFetcher(), url) == PNG


def picture_of_length(declared: int, body: bytes = PNG) -> bytes:
    return answer(body, "Content-Type: image/png", f"Content-Length: {declared}")


async def silent(connection: Connection) -> None:
    await asyncio.Event().wait()


async def dripping(connection: Connection) -> None:
    connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    while True:
        await connection.send_and_drain(b"x")
        await asyncio.sleep(0.001)


def endless(head: bytes, piece: bytes) -> Handler:
    """Answers with `head`, and then with one piece after the other."""

    async def pour(connection: Connection) -> None:
        connection.transport.write(head)
        while True:
            await connection.send_and_drain(piece)

    return pour


@pytest.mark.parametrize("handler", [silent, dripping])
async def test_a_slow_server(web: Web, handler: Any) -> None:
    web.routes["/b"] = handler
    fetcher = web.fetcher(limits=Limits(timeout_s=0.05))
    assert "took longer than 0.05 s" in await refused(fetcher, web.url("/b"))


async def test_a_slow_name_server(web: Web) -> None:
    class Slow(Names):
        async def resolve(self, *args: Any, **kwargs: Any) -> Any:
            await asyncio.Event().wait()

    fetcher = web.fetcher(resolver=Slow({}), limits=Limits(timeout_s=0.05))
    assert "took longer than 0.05 s" in await refused(fetcher, web.url("/a.png"))


async def test_the_time_is_of_all_redirects_together(web: Web) -> None:
    async def slow_redirect(connection: Connection) -> None:
        await asyncio.sleep(0.03)
        await connection.send_and_drain(redirect("/b", 302, "Connection: close"))

    web.routes["/b"] = slow_redirect
    fetcher = web.fetcher(limits=Limits(timeout_s=0.1, max_redirects=100))
    assert "took longer than" in await refused(fetcher, web.url("/b"))


async def test_an_endless_body_is_cut_off(web: Web) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"
    web.routes["/b"] = endless(head, bytes(65536))
    fetcher = web.fetcher(limits=Limits(max_bytes=2**20))
    assert "larger than 1 MiB" in await refused(fetcher, web.url("/b"))
    await eventually(lambda: not web.connections)


async def test_endless_headers_are_cut_off(web: Web) -> None:
    web.routes["/b"] = endless(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 4000 + b"\r\n")
    assert "gave no valid answer" in await refused(web.fetcher(), web.url("/b"))
    await eventually(lambda: not web.connections)


async def test_a_redirects_body_is_not_read(web: Web) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /dripping\r\nContent-Type: image/png\r\n\r\n"
    web.routes["/b"] = endless(head, bytes(65536))
    web.routes["/dripping"] = picture(PNG)
    assert await load(web.fetcher(), web.url("/b")) == PNG
    await eventually(lambda: not web.connections)


@pytest.mark.parametrize("excess", [0, 1])
async def test_the_limit_of_bytes(web: Web, excess: int) -> None:
    limits = Limits(max_bytes=len(PNG) - excess)
    for url in (web.url("/a.png"), data_url(PNG)):
        if excess:
            assert "larger than" in await refused(web.fetcher(limits=limits), url)
        else:
            assert await load(web.fetcher(limits=limits), url) == PNG


async def test_a_declared_length_over_the_limit_is_not_waited_for(web: Web) -> None:
    async def never_sends(connection: Connection) -> None:
        connection.transport.write(
            answer(b"", "Content-Type: image/png", f"Content-Length: {2**40}")
        )
        await asyncio.Event().wait()

    web.routes["/b"] = never_sends
    assert "larger than 20 MiB" in await refused(web.fetcher(), web.url("/b"))


async def test_a_body_shorter_than_its_declared_length(web: Web) -> None:
    async def breaks_off(connection: Connection) -> None:
        await connection.send_and_drain(
            answer(PNG, "Content-Type: image/png", f"Content-Length: {len(PNG) + 1}")
        )

    web.routes["/b"] = breaks_off
    assert "broke off" in await refused(web.fetcher(), web.url("/b"))


async def test_of_a_body_longer_than_its_declared_length_no_more_is_read(web: Web) -> None:
    loaded = asyncio.Event()

    async def lies(connection: Connection) -> None:
        connection.transport.write(
            answer(PNG, "Content-Type: image/png", f"Content-Length: {len(PNG)}")
        )
        await loaded.wait()
        while True:
            await connection.send_and_drain(bytes(65536))

    web.routes["/b"] = lies
    assert await load(web.fetcher(), web.url("/b")) == PNG
    loaded.set()
    await eventually(lambda: not web.connections)


async def test_a_body_that_comes_with_more_than_its_declared_length(web: Web) -> None:
    web.routes["/b"] = picture_of_length(len(PNG), PNG + bytes(1000))
    assert "gave no valid answer" in await refused(web.fetcher(), web.url("/b"))
    await eventually(lambda: not web.connections)


async def test_a_compressed_body_is_not_inflated(web: Web) -> None:
    headers = ["Content-Type: image/png", "Content-Encoding: gzip"]
    web.routes["/b"] = answer(gzip.compress(PNG), *headers)
    assert "is not a PNG" in await refused(web.fetcher(), web.url("/b"))


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "video/mp4"])
async def test_other_content_types(web: Web, content_type: str) -> None:
    web.routes["/b"] = picture(PNG, content_type)
    assert f"content type is {content_type}" in await refused(web.fetcher(), web.url("/b"))


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 403, 404, 410, 500, 503])
async def test_other_statuses(web: Web, status: int) -> None:
    web.routes["/b"] = answer(b"", "Content-Type: image/png", status=status)
    assert f"status {status}" in await refused(web.fetcher(), web.url("/b"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\0\0\0\0\r\n\r\n", "gave no valid answer"),
        (b"SSH-2.0-x\r\n\r\n", "gave no valid answer"),
        (b"HTTP/1.1 200 OK\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
)
async def test_what_is_no_http(web: Web, raw: bytes, reason: str) -> None:
    async def write(connection: Connection) -> None:
        await connection.send_and_drain(raw)

    web.routes["/b"] = write
    assert reason in await refused(web.fetcher(), web.url("/b"))


async def test_a_port_that_nobody_listens_on() -> None:
    async with running_web() as web:
        pass
    assert "cannot be reached" in await refused(web.fetcher(), web.url("/a.png"))


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://images.test:x/", "http://" + "a" * 64 + ".test/"],
)
async def test_malformed_urls(url: str) -> None:
    assert "malformed" in await refused(ImageFetcher(), url)


async def test_a_reason_tells_neither_query_nor_data_nor_addresses(web: Web) -> None:
    fetcher = web.fetcher({"inside.test": ["10.1.2.3"]})
    reason = await refused(fetcher, web.url("/a/b.png?signature=secret#secret", "inside.test"))
    assert (
        reason == "The image b.png from inside.test cannot be used: its host has no public address."
    )
    assert await refused(fetcher, "data:image/png;base64,c2VjcmV0") == (
        "The image in a data URL cannot be used: it is not a PNG, JPEG, WebP or GIF image."
    )
    long = await refused(fetcher, web.url("/" + "x" * 10_000, "inside.test"))
    assert len(long) < 300

"""Images of requests: what is loaded, and what a request cannot make this service do."""

import asyncio
import base64
import contextlib
import gzip
import io
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serving.engine.media import ImageFetcher, Limits, MediaError, check_image
from tests.engine.web import (
    PRIVATE,
    PUBLIC,
    Names,
    Web,
    answer,
    certificate,
    picture,
    redirect,
    running_web,
)
from tests.eventually import eventually


def encoded(format: str = "PNG", size: tuple[int, int] = (3, 2), **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, format, **kwargs)
    return buffer.getvalue()


def data_url(data: bytes, head: str = "image/png;base64") -> str:
    return f"data:{head},{base64.b64encode(data).decode()}"


PNG = encoded()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with running_web() as web:
        web.routes["/a.png"] = picture(PNG)
        yield web


async def load(fetcher: ImageFetcher, url: str) -> bytes:
    return await fetcher.load(url, bytes)


async def refused(fetcher: ImageFetcher, url: str) -> str:
    """The reason that the client is given."""
    with pytest.raises(MediaError) as error:
        await load(fetcher, url)
    return str(error.value)


# What is loaded


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


# Where a request cannot reach


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://images.test/a.png",
        "gopher://images.test/",
        "unix:///run/docker.sock",
        "/etc/passwd",
        "images.test/a.png",
        "//images.test/a.png",
        "http:///a.png",
        "javascript:alert(1)",
        "",
    ],
)
async def test_other_schemes(web: Web, url: str) -> None:
    assert "is not an http, https or data URL" in await refused(web.fetcher(), url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ],
)
async def test_addresses_that_are_not_public(web: Web, host: str) -> None:
    assert "no public address" in await refused(web.fetcher(), web.url("/a.png", host))
    assert not web.requests


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "LOCALHOST", "0x7f000001", "0x7f.1", "0177.0.0.0x1"]
)
async def test_what_the_operating_system_takes_for_loopback(web: Web, host: str) -> None:
    fetcher = ImageFetcher(ports=frozenset({web.port}))
    assert "no public address" in await refused(fetcher, web.url("/a.png", host))
    assert not web.requests


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "017700000001", "1.1.1.1.1", "\uff11\uff12\uff17.0.0.1"]
)
async def test_unusual_spellings_of_an_address(web: Web, host: str) -> None:
    await refused(ImageFetcher(ports=frozenset({web.port})), web.url("/a.png", host))
    assert not web.requests


@pytest.mark.parametrize(
    "address", [PRIVATE, "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1"]
)
async def test_a_name_of_a_private_address(web: Web, address: str) -> None:
    fetcher = web.fetcher({"inside.test": [address]})
    reason = await refused(fetcher, web.url("/a.png", "inside.test"))
    assert (
        reason == "The image a.png from inside.test cannot be used: its host has no public address."
    )
    assert not web.requests


async def test_names_that_exist_inside_cannot_be_told_from_names_that_do_not(web: Web) -> None:
    fetcher = web.fetcher({"inside.test": ["10.0.0.1"]})
    inside = await refused(fetcher, web.url("/a.png", "inside.test"))
    nowhere = await refused(fetcher, web.url("/a.png", "nowhere.test"))
    assert inside.replace("inside.test", "nowhere.test") == nowhere


@pytest.mark.parametrize("addresses", [f"{PUBLIC} {PRIVATE}", f"{PRIVATE} {PUBLIC}"])
async def test_of_a_names_addresses_only_public_ones_are_connected_to(
    web: Web, addresses: str
) -> None:
    assert (
        await load(web.fetcher({"both.test": [addresses]}), web.url("/a.png", "both.test")) == PNG
    )
    assert [request.address for request in web.requests] == [PUBLIC]


async def test_a_name_is_looked_up_once_for_a_connection(web: Web) -> None:
    names = Names({"rebinds.test": [PUBLIC, PRIVATE]})
    assert await load(web.fetcher(resolver=names), web.url("/a.png", "rebinds.test")) == PNG
    assert names.look_ups == ["rebinds.test"]
    assert [request.address for request in web.requests] == [PUBLIC]


async def test_a_name_that_turns_private_between_redirects(web: Web) -> None:
    web.routes["/1"] = redirect("/a.png", 302, "Connection: close")
    fetcher = web.fetcher({"rebinds.test": [PUBLIC, PRIVATE]})
    reason = await refused(fetcher, web.url("/1", "rebinds.test"))
    assert "no public address" in reason
    assert web.targets == ["/1"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1/", "no public address"),
        ("http://169.254.169.254/latest/meta-data/", "no public address"),
        ("http://[::1]/", "no public address"),
        ("http://inside.test/", "no public address"),
        ("//10.0.0.1/", "no public address"),
        ("file:///etc/passwd", "is not an http or https URL"),
        ("data:image/png;base64,AAAA", "is not an http or https URL"),
        ("ftp://images.test/", "is not an http or https URL"),
        ("http://user:secret@images.test/", "holds credentials"),
        ("http://images.test:22/", "port"),
        ("http://[::1", "malformed"),
    ],
)
async def test_where_a_redirect_cannot_lead(web: Web, location: str, reason: str) -> None:
    web.routes["/1"] = redirect(location)
    web.routes["/"] = picture(PNG)
    assert reason in await refused(web.fetcher({"inside.test": [PRIVATE]}), web.url("/1"))
    assert web.targets == ["/1"]


async def test_a_redirect_to_a_private_server_on_the_same_port(web: Web) -> None:
    web.routes["/1"] = redirect(web.url("/a.png", PRIVATE))
    assert "no public address" in await refused(web.fetcher(), web.url("/1"))
    assert web.targets == ["/1"]


@pytest.mark.parametrize("redirects", [5, 6])
async def test_five_redirects_and_no_more(web: Web, redirects: int) -> None:
    for number in range(redirects):
        web.routes[f"/{number}"] = redirect(f"/{number + 1}")
    web.routes[f"/{redirects}"] = picture(PNG)
    if redirects == 5:
        assert await load(web.fetcher(), web.url("/0")) == PNG
    else:
        assert "more than 5 redirects" in await refused(web.fetcher(), web.url("/0"))
        assert web.targets == ["/0", "/1", "/2", "/3", "/4", "/5"]


@pytest.mark.parametrize("user", ["user:secret", "user", ":secret"])
async def test_credentials_in_a_url(web: Web, user: str) -> None:
    reason = await refused(web.fetcher(), web.url("/a.png", f"{user}@images.test"))
    assert "holds credentials" in reason
    assert "secret" not in reason
    assert not web.requests


@pytest.mark.parametrize("port", [22, 6379, 8080, 8443])
async def test_ports(port: int) -> None:
    fetcher = ImageFetcher(resolver=Names({"images.test": [PUBLIC]}))
    assert "port" in await refused(fetcher, f"http://images.test:{port}/a.png")


async def test_proxies_of_the_environment_are_not_used(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{PRIVATE}:{web.port}")
    assert await load(web.fetcher(), web.url("/a.png")) == PNG
    assert [(request.address, request.target) for request in web.requests] == [(PUBLIC, "/a.png")]


async def test_cookies_are_not_kept(web: Web) -> None:
    web.routes["/1"] = redirect("/a.png", 302, "Set-Cookie: a=b; Path=/")
    assert await load(web.fetcher(), web.url("/1")) == PNG
    assert "cookie" not in web.requests[1].headers


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("cdn.test", True),
        ("CDN.test", True),
        ("cdn.test.", True),
        ("a.images.test", True),
        ("a.b.images.test", True),
        ("images.test", False),
        ("evilimages.test", False),
        ("a.cdn.test", False),
        ("cdn.test.evil.test", False),
        (PUBLIC, False),
    ],
)
async def test_allowed_domains(web: Web, host: str, allowed: bool) -> None:
    names = {host.lower(): [PUBLIC]}
    fetcher = web.fetcher(names, allowed_domains=["cdn.test", "*.Images.test"])
    if allowed:
        assert await load(fetcher, web.url("/a.png", host)) == PNG
    else:
        assert "takes no images from" in await refused(fetcher, web.url("/a.png", host))
        assert not web.requests


async def test_allowed_domains_hold_for_redirects_and_not_for_data_urls(web: Web) -> None:
    web.routes["/1"] = redirect(web.url("/a.png", "other.test"))
    fetcher = web.fetcher({"other.test": [PUBLIC]}, allowed_domains=["images.test"])
    assert "takes no images from" in await refused(fetcher, web.url("/1"))
    assert web.targets == ["/1"]
    assert await load(fetcher, data_url(PNG)) == PNG


async def test_an_allowed_domain_may_not_be_private_either(web: Web) -> None:
    fetcher = web.fetcher({"inside.test": [PRIVATE]}, allowed_domains=["inside.test"])
    assert "no public address" in await refused(fetcher, web.url("/a.png", "inside.test"))


@pytest.mark.parametrize("host", ["images.test", "other.test"])
async def test_tls_verifies_the_hosts_name(tmp_path: Path, host: str) -> None:
    server, client = certificate(tmp_path, "images.test")
    async with running_web(server) as web:
        web.routes["/a.png"] = picture(PNG)
        fetcher = web.fetcher({"other.test": [PUBLIC]}, tls=client)
        if host == "images.test":
            assert await load(fetcher, web.url("/a.png", host, "https")) == PNG
        else:
            assert "TLS" in await refused(fetcher, web.url("/a.png", host, "https"))
            assert not web.requests


async def test_tls_trusts_no_unknown_certificate(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path, "images.test")
    async with running_web(server) as web:
        assert "TLS" in await refused(web.fetcher(), web.url("/a.png", scheme="https"))


# What an image may cost


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.001)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Filler: " + b"x" * 4000 + b"\r\n")
        await writer.drain()


async def endless_redirects(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /dripping\r\nContent-Type: image/png\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


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
    async def slow_redirect(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        writer.write(redirect("/b", 302, "Connection: close"))
        await writer.drain()

    web.routes["/b"] = slow_redirect
    fetcher = web.fetcher(limits=Limits(timeout_s=0.1, max_redirects=100))
    assert "took longer than" in await refused(fetcher, web.url("/b"))


async def test_an_endless_body_is_cut_off(web: Web) -> None:
    web.routes["/b"] = endless
    fetcher = web.fetcher(limits=Limits(max_bytes=2**20))
    assert "larger than 1 MiB" in await refused(fetcher, web.url("/b"))
    await eventually(lambda: not web.connections)


async def test_endless_headers_are_cut_off(web: Web) -> None:
    web.routes["/b"] = endless_headers
    assert "gave no valid answer" in await refused(web.fetcher(), web.url("/b"))
    await eventually(lambda: not web.connections)


async def test_a_redirects_body_is_not_read(web: Web) -> None:
    web.routes["/b"] = endless_redirects
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
    async def never_sends(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"", "Content-Type: image/png", f"Content-Length: {2**40}"))
        await asyncio.Event().wait()

    web.routes["/b"] = never_sends
    assert "larger than 20 MiB" in await refused(web.fetcher(), web.url("/b"))


async def test_a_body_shorter_than_its_declared_length(web: Web) -> None:
    async def breaks_off(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(PNG, "Content-Type: image/png", f"Content-Length: {len(PNG) + 1}"))
        await writer.drain()

    web.routes["/b"] = breaks_off
    assert "broke off" in await refused(web.fetcher(), web.url("/b"))


async def test_of_a_body_longer_than_its_declared_length_no_more_is_read(web: Web) -> None:
    async def lies(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(PNG, "Content-Type: image/png", f"Content-Length: {len(PNG)}"))
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    web.routes["/b"] = lies
    with contextlib.suppress(MediaError):  # if the rest came along with the first bytes
        assert await load(web.fetcher(), web.url("/b")) == PNG
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
    "raw", [b"\0\0\0\0\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b""]
)
async def test_what_is_no_http(web: Web, raw: bytes) -> None:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    web.routes["/b"] = write
    reason = await refused(web.fetcher(), web.url("/b"))
    assert "no valid answer" in reason or "cannot be reached" in reason


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


# What an image is


@pytest.mark.parametrize("format", ["BMP", "TIFF", "PPM", "ICO"])
async def test_other_formats(format: str) -> None:
    assert "is not a PNG, JPEG, WebP or GIF" in await refused(
        ImageFetcher(), data_url(encoded(format, (16, 16)))
    )


@pytest.mark.parametrize(
    "data", [b"", b"<svg/>", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF"]
)
async def test_what_is_no_image(data: bytes) -> None:
    assert "is not a PNG, JPEG, WebP or GIF" in await refused(ImageFetcher(), data_url(data))


async def test_whatever_a_decoder_raises_is_a_damaged_image() -> None:
    def decode(data: bytes) -> None:
        raise struct.error

    with pytest.raises(MediaError, match="it is damaged"):
        await ImageFetcher().load(data_url(PNG), decode)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(9))


@pytest.mark.parametrize("size", [(50_001, 1000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
def test_more_pixels_than_the_limit_by_the_header_alone(size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match="more than 50,000,000 pixels"):
        check_image(png_header(*size), 50_000_000)


async def test_a_decompression_bomb_is_not_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 20_000
    assert "more than 50,000,000 pixels" in await refused(
        ImageFetcher(), data_url(buffer.getvalue())
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_limit_of_pixels_in_each_format(format: str) -> None:
    image = encoded(format, (30, 20))
    check_image(image, 600)
    with pytest.raises(MediaError, match="more than 599 pixels"):
        check_image(image, 599)


def test_a_jpeg_of_endless_scans() -> None:
    image = encoded("JPEG", (64, 64), progressive=True)
    last_scan = image[image.rindex(b"\xff\xda") : -2]
    check_image(image[:-2] + last_scan * 20 + image[-2:], 4096)
    for filler in (b"", b"\xff", b"\xff\x01", b"\xff\xd0"):
        with pytest.raises(MediaError, match="scans"):
            check_image(image[:-2] + (filler + last_scan) * 100 + image[-2:], 4096)


def test_a_jpeg_with_a_thumbnail_and_a_film_appended() -> None:
    many = b"\xff\xda\0\2" * 1000
    image = encoded("JPEG", (64, 64), comment=many, progressive=True)
    check_image(image + bytes(2) + many, 4096)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:", "must have the form"),
        ("data:image/png;base64", "must have the form"),
        ("data:image/png,hello", "must have the form"),
        ("data:image/png;base64;x,AAAA", "must have the form"),
        ("data:text/html;base64,AAAA", "content type is text/html"),
        ("data:image/png;base64,@@@@", "base64 is malformed"),
        ("data:image/png;base64,AAA", "base64 is malformed"),
        ("data:image/png;base64,AAAA=AAA", "base64 is malformed"),
        ("data:image/png;base64,ééé", "base64 is malformed"),
        ("data:image/png;base64,", "is not a PNG"),
    ],
)
async def test_data_urls_that_are_not_taken(url: str, reason: str) -> None:
    assert reason in await refused(ImageFetcher(), url)


# What a client is told


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

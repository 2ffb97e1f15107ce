"""Request bodies that a client or a proxy has compressed."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
import zstandard

from tests.router.test_app import error_of
from tests.support.live_router import CHAT, MAX_BODY_BYTES, MODEL, LiveRouter

BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}).encode()
Compress = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def gzip_members(data: bytes) -> bytes:
    return gzip.compress(data[:20]) + gzip.compress(data[20:])


def zstd_frames(data: bytes) -> bytes:
    return zstandard.compress(data[:20]) + zstandard.compress(data[20:])


CODINGS: dict[str, list[Compress]] = {
    "gzip": [gzip.compress, gzip_members],
    "X-GZIP": [gzip.compress],
    "deflate": [zlib.compress, raw_deflate],
    "zstd": [zstandard.compress, zstd_frames],
    "identity": [bytes],
}  # fmt: skip
CASES = [(coding, compress) for coding, ways in CODINGS.items() for compress in ways]


@pytest.mark.parametrize(("coding", "compress"), CASES)
async def test_the_engine_gets_the_plain_body(
    router: LiveRouter, coding: str, compress: Compress
) -> None:
    headers = {"content-encoding": coding}
    response = await router.http.post(CHAT, content=compress(BODY), headers=headers)
    assert response.status_code == 200
    (request,) = router.engines[0].received
    assert json.loads(request.body) == json.loads(BODY)
    assert b"content-encoding" not in dict(request.headers)


@pytest.mark.parametrize(("coding", "compress"), [case for case in CASES if case[1] is not bytes])
async def test_a_body_that_grows_past_the_limit_is_a_413(
    router: LiveRouter, coding: str, compress: Compress
) -> None:
    content = compress(b" " * (MAX_BODY_BYTES + 1))
    response = await router.http.post(CHAT, content=content, headers={"content-encoding": coding})
    assert error_of(response, 413)["code"] == "request_too_large"
    assert router.engines[0].requests == 0


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_damaged_body_is_a_400(router: LiveRouter, coding: str) -> None:
    response = await router.http.post(CHAT, content=BODY, headers={"content-encoding": coding})
    assert error_of(response, 400)["code"] == "invalid_content_encoding"


async def test_a_body_that_ends_too_early_is_a_400(router: LiveRouter) -> None:
    content = gzip.compress(BODY)[:-10]
    response = await router.http.post(CHAT, content=content, headers={"content-encoding": "gzip"})
    assert error_of(response, 400)["code"] == "invalid_content_encoding"


async def test_a_body_of_very_many_members_is_a_400(router: LiveRouter) -> None:
    content = gzip.compress(b" ") * 1000
    response = await router.http.post(CHAT, content=content, headers={"content-encoding": "gzip"})
    assert error_of(response, 400)["code"] == "invalid_content_encoding"


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip"])
async def test_an_unknown_coding_is_a_415_that_names_the_known_ones(
    router: LiveRouter, coding: str
) -> None:
    response = await router.http.post(CHAT, content=BODY, headers={"content-encoding": coding})
    assert error_of(response, 415)["code"] == "unsupported_content_encoding"
    assert response.headers["accept-encoding"] == "gzip, deflate, zstd"

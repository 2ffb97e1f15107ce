"""HTTP as browsers, proxies and health checks of load balancers speak it."""

import asyncio
import json
import re

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from serving.router.http.openapi import RELAYED
from tests.router.test_app import error_of
from tests.support.engines import ClosesAfterHead, Engine
from tests.support.live_router import CHAT, MODEL, LiveRouter, StartRouter

PAGE = "http://localhost:5173"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/models", "/v1/unknown"])
async def test_a_preflight_request_is_answered(router: LiveRouter, path: str) -> None:
    response = await router.http.options(path, headers=PREFLIGHT)
    assert response.is_success
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["access-control-allow-methods"] == "GET, HEAD, POST, DELETE"
    allowed = response.headers["access-control-allow-headers"]
    assert allowed == PREFLIGHT["access-control-request-headers"]


async def cross_origin(router: LiveRouter, origin: str) -> list[httpx.Response]:
    """Returns a relayed answer, a stream, an error, and an answer of the router itself."""
    headers: dict[str, str | bytes] = {"origin": origin}
    return [
        await router.chat(headers),
        await router.chat(headers, stream=True),
        await router.chat(headers, model="unknown"),
        await router.http.get("/v1/models", headers={"origin": origin}),
    ]


async def test_a_page_of_any_origin_may_read_answers_and_errors(router: LiveRouter) -> None:
    for response in await cross_origin(router, PAGE):
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["access-control-expose-headers"] == "*"


async def test_only_the_configured_origins_may(start_router: StartRouter) -> None:
    router = await start_router(Engine, cors_origins=(PAGE,))
    for response in await cross_origin(router, PAGE):
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["vary"].lower() == "origin"
    for response in await cross_origin(router, "https://example.com"):
        assert "access-control-allow-origin" not in response.headers
    refused = await router.http.options(CHAT, headers=PREFLIGHT | {"origin": "https://example.com"})
    assert "access-control-allow-origin" not in refused.headers


async def test_without_an_origin_no_header_is_added(router: LiveRouter) -> None:
    await cross_origin(router, PAGE)
    response = await router.chat()
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/-/status", "/-/targets", "/metrics"])
async def test_what_operators_read_is_for_no_page(router: LiveRouter, path: str) -> None:
    response = await router.http.get(path, headers={"origin": PAGE})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("path", ["/health", "/v1/models", f"/v1/models/{MODEL}", "/-/healthz"])
async def test_head_is_get_without_a_body(router: LiveRouter, path: str) -> None:
    get, head = await router.http.get(path), await router.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    ours = {"x-request-id", "date"}
    assert dict(head.headers).items() - dict(get.headers).items() <= {
        (name, value) for name, value in head.headers.items() if name in ours
    }


async def test_head_of_an_endpoint_for_posts_is_a_405(router: LiveRouter) -> None:
    assert (await router.http.head(CHAT)).status_code == 405


async def test_a_slash_at_the_end_of_a_path_does_not_matter(router: LiveRouter) -> None:
    models = (await router.http.get("/v1/models/")).json()
    assert [model["id"] for model in models["data"]] == [MODEL]
    assert (await router.http.get(f"/v1/models/{MODEL}/")).json()["id"] == MODEL
    response = await router.http.post(f"{CHAT}/?x=1", json={"model": MODEL})
    assert response.status_code == 200
    assert router.engines[0].received[0].target == f"{CHAT}?x=1".encode()


async def exchange(router: LiveRouter, request: bytes) -> tuple[bytes, bytes]:
    """Sends a request on a connection of its own, and returns the head and the body of what comes
    until the router closes it."""
    port = httpx.URL(router.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.lower(), body


def http_10(method: bytes, path: str, body: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (
        method,
        path.encode(),
        len(body),
        body,
    )


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_over_http_10_is_not_chunked(router: LiveRouter, stream: bool) -> None:
    body = {"model": MODEL, "stream": stream}
    expected = (await router.chat(stream=stream)).content
    head, answer = await exchange(router, http_10(b"POST", CHAT, json.dumps(body).encode()))
    assert head.startswith(b"http/1.1 200") and b"transfer-encoding" not in head
    assert b"connection: close" in head

    def without_ids(text: bytes) -> bytes:
        return re.sub(rb'"(id|created)": ?[^,]*', b"", text)

    assert without_ids(answer) == without_ids(expected)


async def test_the_routers_own_answers_over_http_10(router: LiveRouter) -> None:
    head, body = await exchange(router, http_10(b"GET", "/v1/models"))
    assert b"transfer-encoding" not in head
    assert json.loads(body)["data"][0]["id"] == MODEL


async def test_an_error_over_http_10(start_router: StartRouter) -> None:
    router = await start_router(ClosesAfterHead, backoff_s=0.01)
    head, body = await exchange(
        router, http_10(b"POST", CHAT, json.dumps({"model": MODEL}).encode())
    )
    assert head.startswith(b"http/1.1 503")
    assert json.loads(body)["error"]["code"] == "replicas_failed"


async def test_a_client_that_expects_100_gets_it_before_it_sends_the_body(
    router: LiveRouter,
) -> None:
    body = json.dumps({"model": MODEL}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
        % (CHAT.encode(), len(body))
    )
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_the_service_describes_itself(router: LiveRouter) -> None:
    document = (await router.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    posts = {path for path, methods in document["paths"].items() if "post" in methods}
    assert posts == RELAYED
    assert {"/v1/models", "/health", "/metrics", "/-/status"} <= set(document["paths"])
    operation = document["paths"][CHAT]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.validate({"messages": [{"role": "user", "content": "x"}], "model": None}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"messages": []}, schema)
    response = await router.chat(model="unknown")
    error = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
    jsonschema.validate(response.json(), {**error, "components": document["components"]})
    assert error_of(response, 404)["code"] == "model_not_found"

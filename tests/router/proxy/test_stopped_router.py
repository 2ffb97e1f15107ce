"""A router that is stopped before its answers are complete says so to their clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from serving.router.http.server import HttpServer, listening_socket
from tests.router.test_app import error_of
from tests.support.engines import Steered
from tests.support.live_router import CHAT, MESSAGES, MODEL, LiveRouter, StartRouter
from tests.support.stand_in_engine import stream_events
from tests.support.waiting import eventually


@asynccontextmanager
async def server_of(router: LiveRouter) -> AsyncIterator[tuple[HttpServer, httpx.AsyncClient]]:
    """Serves the router on another port, as the deployment does."""
    sock = listening_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = HttpServer(router.app, sock)
    running = asyncio.create_task(server.run_until_stopped())
    await eventually(lambda: server.started)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        yield server, client
    await running


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_without_an_answer_gets_an_error(
    start_router: StartRouter, stream: bool
) -> None:
    router = await start_router(Steered)
    async with server_of(router) as (server, client):
        body = {"model": MODEL, "messages": MESSAGES, "stream": stream}
        answer = asyncio.create_task(client.post(CHAT, json=body))
        await router.asked()
        await server.stop(0)
        error = error_of(await answer, 503)
        assert error["code"] == "router_stopped"
        assert (await answer).headers["retry-after"] == "1"


async def test_a_stream_that_has_begun_ends_with_an_error_event(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    async with server_of(router) as (server, client):
        body = {"model": MODEL, "messages": MESSAGES, "stream": True}
        request = client.build_request("POST", CHAT, json=body)
        sent = asyncio.create_task(client.send(request, stream=True))
        first, token, _ = stream_events("an-id", MODEL)
        (await router.asked()).begin_stream(first, token)
        answer = await sent
        await server.stop(0)
        received = b""
        with pytest.raises(httpx.RemoteProtocolError):
            async for piece in answer.aiter_raw():
                received += piece
        assert token in received and b'"code": "router_stopped"' in received
        assert b"[DONE]" not in received
        await answer.aclose()
    await eventually(lambda: bool(router.lines))
    assert b'"outcome":"broken"' in router.lines[0]

"""The relay when an engine fails, when a client disconnects, and when a client does not read."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import openai
import pytest

from tests.router.proxy.test_relay import EVENTS, whole_stream
from tests.router.test_app import error_of
from tests.support.engines import (
    BEFORE_FIRST_BYTE,
    ClosesAfterHead,
    ClosesIdleConnections,
    ClosesOnSecondRequest,
    Endless,
    Engine,
    ResetsAfterHead,
    ResetsBeforeHead,
    Steered,
    TalksNoHttp,
)
from tests.support.live_router import CHAT, IMPATIENT, MESSAGES, MODEL, LiveRouter, StartRouter
from tests.support.stand_in_engine import OK_HEAD, WORD, stream_events
from tests.support.waiting import eventually

each_fault = pytest.mark.parametrize("fault", BEFORE_FIRST_BYTE)
HEALTHY = (ResetsBeforeHead, ResetsAfterHead, ClosesAfterHead, TalksNoHttp)
"""Engines that break each request and answer their health check."""
streamed_or_not = pytest.mark.parametrize("stream", [False, True])


@each_fault
@streamed_or_not
async def test_before_the_first_byte_another_replica_answers(
    start_router: StartRouter, fault: type[Engine], stream: bool
) -> None:
    router = await start_router(fault, Engine)
    answer = await router.chat({"x-request-id": "id"}, stream=stream, max_tokens=3)
    assert answer.status_code == 200
    assert answer.headers.get_list("x-replica") == ["replica-1"]
    if stream:
        assert answer.content == whole_stream("id", MODEL, 3)
    assert len(router.engines[1].received) == 1
    if fault.listens:
        assert router.engines[0].received[0].body == router.engines[1].received[0].body


@each_fault
@streamed_or_not
async def test_when_every_replica_fails_the_client_may_try_later(
    start_router: StartRouter, fault: type[Engine], stream: bool
) -> None:
    """The retries end either when no replica is left or, if all say that they are healthy, at the
    limit of a request that may itself be the cause."""
    healthy = fault in HEALTHY
    settings = IMPATIENT | ({"backoff_s": 0.01} if healthy else {})
    router = await start_router(fault, fault, **settings)
    response = await router.chat(stream=stream)
    assert error_of(response, 503)["code"] == ("replicas_failed" if healthy else "no_replica")
    assert response.headers["retry-after"] == "1"
    assert await router.loads() == [(0, 0), (0, 0)]


@each_fault
async def test_a_failed_replica_is_ejected(start_router: StartRouter, fault: type[Engine]) -> None:
    router = await start_router(fault, Engine)
    for _ in range(3):
        assert (await router.chat()).headers["x-replica"] == "replica-1"
    assert router.engines[0].requests == (1 if fault.listens else 0)


@streamed_or_not
async def test_without_another_replica_a_request_waits_until_the_one_is_healthy_again(
    start_router: StartRouter, stream: bool
) -> None:
    router = await start_router(Steered, backoff_s=0.05)
    answer = asyncio.create_task(router.chat(stream=stream, max_tokens=3))
    (await router.asked()).reset()
    (await router.asked()).proceed()
    assert (await answer).status_code == 200
    assert (await answer).headers["x-retries"] == "1"


async def test_a_request_that_makes_engines_fail_does_not_go_round(
    start_router: StartRouter,
) -> None:
    router = await start_router(ResetsBeforeHead, backoff_s=0.01)
    response = await router.chat()
    assert error_of(response, 503)["code"] == "replicas_failed"
    assert router.engines[0].requests <= 4


async def test_after_the_backoff_a_failed_replica_is_tried_again(
    start_router: StartRouter,
) -> None:
    router = await start_router(ResetsBeforeHead, Engine, backoff_s=0.01)
    failing, _ = router.directory.models[MODEL].replicas
    for _ in range(3):
        assert (await router.chat()).headers["x-replica"] == "replica-1"
        await eventually(lambda: not failing.health.ejected)
    assert router.engines[0].requests == 3


async def test_an_unstreamed_answer_cut_short_is_had_elsewhere(start_router: StartRouter) -> None:
    router = await start_router(Steered, Engine)
    answer, connection = await router.begin()
    head = OK_HEAD % b"application/json" + b"content-length: 100\r\n\r\n"
    connection.transport.write(head + b'{"half": ')
    connection.transport.close()
    response = await answer
    assert response.headers["x-replica"] == "replica-1"
    assert response.json()["model"] == MODEL


@pytest.mark.parametrize("closing", [ClosesIdleConnections, ClosesOnSecondRequest])
async def test_a_kept_connection_that_the_engine_closed_is_no_error(
    start_router: StartRouter, closing: type[Engine]
) -> None:
    router = await start_router(closing)
    for n in range(1, 4):
        assert (await router.chat()).status_code == 200
        assert router.engines[0].accepted == n


async def break_after(router: LiveRouter, sent: bytes, abruptly: bool) -> tuple[bytes, Exception]:
    """Breaks a stream after `sent`. Returns what the client got, and the exception that ended
    it."""
    connection, response = await router.begun_stream(sent)
    got = b""
    with pytest.raises(httpx.RemoteProtocolError) as ended:
        async for part in response.aiter_raw():
            got += part
            if got == sent:
                connection.reset() if abruptly else connection.transport.close()
    await response.aclose()
    return got, ended.value


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_broken_stream_ends_in_an_error_event_and_cannot_look_complete(
    start_router: StartRouter, abruptly: bool
) -> None:
    router = await start_router(Steered, Engine)
    got, ended = await break_after(router, EVENTS[0], abruptly)
    event = httpx.Response(200, content=got.removeprefix(EVENTS[0] + b"data: ")).json()
    assert event["error"]["type"] == "server_error"
    assert event["error"]["code"] == "replica_failed"
    assert got.endswith(b"\n\n")
    assert b"[DONE]" not in got
    assert "incomplete chunked read" in str(ended)
    assert router.engines[1].requests == 0
    assert await router.loads() == [(0, 0), (0, 0)]


async def test_the_error_event_stands_alone_where_a_stream_breaks_within_an_event(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    got, _ = await break_after(router, EVENTS[0] + b'data: {"n":', abruptly=False)
    *_, last, end = got.split(b"\n\n")
    assert last.startswith(b'data: {"error": ')
    assert end == b""


async def test_the_openai_client_raises_on_a_broken_stream(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    request = router.openai.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, logprobs=True
    )
    answer = asyncio.create_task(request)
    connection = await router.asked()
    _, token, _ = stream_events("id", MODEL)
    connection.begin_stream(token)
    stream = await answer
    assert (await anext(stream)).choices[0].delta.content == WORD
    connection.reset()
    with pytest.raises(openai.APIError, match="incomplete"):
        await anext(stream)
    await stream.close()


async def test_a_client_that_leaves_within_a_stream_ends_the_engines_work(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    connection, response = await router.begun_stream(EVENTS[0])
    assert await anext(response.aiter_raw()) == EVENTS[0]
    await response.aclose()
    async with asyncio.timeout(1):
        await connection.closed.wait()
    assert await router.loads() == [(0, 0)]


@streamed_or_not
async def test_a_client_that_leaves_before_the_first_byte_ends_the_engines_work(
    start_router: StartRouter, stream: bool
) -> None:
    router = await start_router(Steered, Engine)
    answer, connection = await router.begin(stream=stream)
    answer.cancel()
    async with asyncio.timeout(1):
        await connection.closed.wait()
    assert await router.loads() == [(0, 0), (0, 0)]
    replicas = router.directory.models[MODEL].replicas
    assert [replica.health.ejected for replica in replicas] == [False, False]


@asynccontextmanager
async def raw_request(router: LiveRouter, body: bytes, length: int) -> AsyncIterator[None]:
    """Runs a client that sends a request and reads nothing of the answer; it disconnects on
    exit."""
    _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port, limit=1)
    writer.write(b"POST %b HTTP/1.1\r\nhost: a\r\n" % CHAT.encode())
    writer.write(b"content-length: %d\r\n\r\n%b" % (length, body))
    await writer.drain()
    yield
    writer.transport.abort()


async def test_a_client_that_leaves_while_sending_its_request_reaches_no_engine(
    router: LiveRouter,
) -> None:
    async with raw_request(router, b'{"model": ', length=1000):
        assert await router.loads() == [(0, 0)]
    await router.chat()
    assert router.engines[0].requests == 1


async def test_a_client_that_does_not_read_holds_the_engine_back(start_router: StartRouter) -> None:
    """The buffers between engine and client are bounded: the kernel's and a little more."""
    router = await start_router(Endless, check_period_s=1000)
    endless = router.engines[0]
    assert issubclass(endless, Endless)
    body = b'{"stream": true}'
    async with raw_request(router, body, len(body)):
        sent_bytes, unchanged = 0, 0
        while unchanged < 50:
            await asyncio.sleep(0.001)
            unchanged = unchanged + 1 if endless.sent_bytes == sent_bytes > 0 else 0
            sent_bytes = endless.sent_bytes
            assert sent_bytes < 64 * 1024 * 1024
        (connection,) = endless.connections
    async with asyncio.timeout(1):
        await connection.closed.wait()


async def test_a_slow_client_gets_all_that_it_waited_for(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    answer = asyncio.create_task(router.open_stream())
    connection = await router.asked()
    connection.begin_stream()
    sent = random.Random(1).randbytes(16 * 1024 * 1024)
    connection.send(sent)
    connection.end_stream()
    response = await answer
    assert await response.aread() == sent


async def test_a_slow_client_does_not_slow_the_others(start_router: StartRouter) -> None:
    router = await start_router(Endless, Engine)
    body = b'{"stream": true}'
    async with raw_request(router, body, len(body)):
        await eventually(lambda: router.engines[0].connections)
        answers = [await router.chat(stream=True, max_tokens=50) for _ in range(5)]
        assert {answer.headers["x-replica"] for answer in answers} == {"replica-1"}

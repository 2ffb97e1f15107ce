"""The connections to engines, as the relay uses them."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from serving.router.replicas.upstream import ConnectionPool, UpstreamError
from tests.router.replicas.upstream import BODY, HEAD, answer_of, connected, requested, rest_of
from tests.support.engines import (
    ClosesOnSecondRequest,
    Engine,
    IsUnavailableAndSaysWhy,
    Refuses,
    ResetsBeforeHead,
    Steered,
    TalksNoHttp,
)
from tests.support.stand_in_engine import OK_HEAD
from tests.support.waiting import eventually


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with connected(Engine) as (pool, engine):
        answers = [await answer_of(pool) for _ in range(3)]
        assert len(set(answers)) == 1 and answers[0]
        assert engine.accepted == 1


async def test_requests_at_once_have_a_connection_each_and_the_last_used_is_used_first() -> None:
    async with connected(Engine) as (pool, engine):
        connections = [await pool.request(HEAD, BODY) for _ in range(3)]
        for connection in connections:
            await rest_of(connection)
            pool.release(connection)
        assert engine.accepted == 3
        assert await pool.request(HEAD, BODY) is connections[-1]


async def test_a_kept_connection_that_was_closed_is_passed_over() -> None:
    async with connected(Engine) as (pool, engine):
        connections = [await pool.request(HEAD, BODY) for _ in range(2)]
        for connection in connections:
            await rest_of(connection)
            pool.release(connection)
        port = connections[-1]._transport.get_extra_info("sockname")[1]
        for upstream in engine.connections:
            if upstream.transport.get_extra_info("peername")[1] == port:
                upstream.transport.close()
        await eventually(lambda: connections[-1]._error)
        assert await pool.request(HEAD, BODY) is connections[0]


async def test_a_body_of_many_reads_arrives_whole() -> None:
    body = b'{"x": "' + b"y" * 1_000_000 + b'"}'
    head = HEAD.replace(b"%d" % len(BODY), b"%d" % len(body))
    async with connected(Engine) as (pool, engine):
        await rest_of(await pool.request(head, body))
        assert engine.received[0].body == body


@pytest.mark.parametrize("fault", [Refuses, ResetsBeforeHead, TalksNoHttp])
async def test_a_fault_before_the_head_is_an_error(fault: type[Engine]) -> None:
    async with connected(fault) as (pool, engine):
        with pytest.raises(UpstreamError):
            await pool.request(HEAD, BODY)
        await eventually(lambda: not engine.connections)


async def test_a_request_is_repeated_once_on_a_new_connection_after_a_kept_one_failed() -> None:
    """A request that kills connections must not be retried on each kept one."""
    async with connected(ClosesOnSecondRequest) as (pool, engine):
        connections = [await pool.request(HEAD, BODY) for _ in range(5)]
        for connection in connections:
            await rest_of(connection)
            pool.release(connection)
        assert await answer_of(pool)
        assert engine.requests == 5 + 2
        assert engine.accepted == 5 + 1


async def test_a_connection_whose_answer_was_not_read_is_not_used_again() -> None:
    async with connected(IsUnavailableAndSaysWhy) as (pool, engine):
        connection = await pool.request(HEAD, BODY)
        assert connection.status == 503
        await eventually(lambda: connection._done)
        pool.release(connection)
        await eventually(lambda: not engine.connections)
        connection = await pool.request(HEAD, BODY)
        assert await rest_of(connection) == b"draining"
        pool.release(connection)
        assert engine.accepted == 2


async def test_a_connection_whose_answer_is_still_coming_is_closed_on_release() -> None:
    async with requested() as (pool, upstream, request):
        upstream.begin_stream(b"a")
        connection = await request
        assert await connection.read() == b"a"
        pool.release(connection)
        await upstream.closed.wait()


async def test_an_engine_that_asks_to_close_is_obeyed() -> None:
    async with connected(Steered) as (pool, engine):
        for n in (1, 2):
            request = asyncio.create_task(pool.request(HEAD, BODY))
            upstream = await engine.asked()
            head = OK_HEAD % b"text/plain" + b"connection: close\r\ncontent-length: 2\r\n\r\n"
            upstream.transport.write(head + b"ok")
            connection = await request
            assert await rest_of(connection) == b"ok"
            pool.release(connection)
            assert upstream.accepted == n


async def test_interim_responses_are_passed_over() -> None:
    async with requested() as (_, upstream, request):
        upstream.transport.write(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n")
        upstream.transport.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok")
        connection = await request
        assert connection.status == 202
        assert connection.headers == [(b"content-length", b"2")]
        assert await rest_of(connection) == b"ok"


async def test_what_came_before_the_break_is_read_before_the_error() -> None:
    async with requested() as (_, upstream, request):
        upstream.begin_stream(b"a", b"b")
        upstream.transport.close()
        connection = await request
        await eventually(lambda: connection._error)
        assert await connection.read() == b"ab"
        with pytest.raises(UpstreamError):
            await connection.read()


async def test_reading_pauses_while_too_much_lies_unread() -> None:
    async with requested() as (pool, upstream, request):
        upstream.begin_stream()
        sent = bytes(16 * 1024 * 1024)
        upstream.send(sent)
        upstream.end_stream()
        connection = await request
        await eventually(lambda: not connection._transport.is_reading())
        assert len(connection._body) > 1
        assert sum(map(len, connection._body)) < 1024 * 1024
        assert await rest_of(connection) == sent
        assert connection.reusable
        pool.release(connection)
        assert upstream.accepted == 1


async def test_a_closed_pool_closes_idle_connections_now_and_others_when_released() -> None:
    async with connected(Engine) as (pool, engine):
        idle, busy = [await pool.request(HEAD, BODY) for _ in range(2)]
        for connection in (idle, busy):
            await rest_of(connection)
        pool.release(idle)
        pool.close()
        await eventually(lambda: len(engine.connections) == 1)
        pool.release(busy)
        await eventually(lambda: not engine.connections)


async def test_an_aborted_request_closes_its_connection() -> None:
    async with requested() as (_, upstream, request):
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await upstream.closed.wait()


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port that answers no connection, as that of a node that is gone."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_a_node_that_does_not_answer_is_an_error_after_the_timeout() -> None:
    with full_backlog() as port:
        pool = ConnectionPool("127.0.0.1", port, connect_timeout_s=0.05)
        with pytest.raises(UpstreamError, match="timed out"):
            await pool.request(HEAD, BODY)

"""The connections to engines, as the relay uses them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

import pytest

from serving.router.replicas.upstream import Connection, ConnectionPool, UpstreamError, body_of
from tests.support.engines import (
    ClosesOnSecondRequest,
    E,
    Engine,
    IsUnavailableAndSaysWhy,
    Refuses,
    ResetsBeforeHead,
    Steered,
    TalksNoHttp,
    fresh,
)
from tests.support.live_router import running_engine
from tests.support.stand_in_engine import OK_HEAD, STREAM_HEAD, chunk
from tests.support.waiting import eventually

BODY = b'{"model": "m"}'
HEAD = b"POST / HTTP/1.1\r\nhost: engine\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@asynccontextmanager
async def connected(
    behaviour: type[E],
) -> AsyncIterator[tuple[ConnectionPool, type[E]]]:
    """Yields a pool of connections to an engine of that behaviour."""
    engine = fresh(behaviour)
    async with running_engine(engine) as port:
        pool = ConnectionPool("127.0.0.1", port, connect_timeout_s=30)
        yield pool, engine
        pool.close()


async def answer_of(pool: ConnectionPool) -> bytes:
    connection = await pool.request(HEAD, BODY)
    answer = await rest_of(connection)
    pool.release(connection)
    return answer


class Pieces(list[bytes]):
    """The pieces of a forwarded body; `chunks` are those that came with their framing."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[bytes] = []

    def take(self, piece: bytes) -> bool:
        self.append(piece)
        return True

    def take_chunk(self, chunk: bytes) -> bool:
        self.chunks.append(chunk)
        self.append(body_of(chunk))
        return True


def never(chunk: bytes) -> bool:
    return False


async def answer_after(pool: ConnectionPool, engine: type[Steered]) -> bytes:
    """Returns the answer to one more request."""
    request = asyncio.create_task(pool.request(HEAD, BODY))
    upstream = await engine.asked()
    upstream.transport.write(OK_HEAD % b"text/plain" + b"content-length: 2\r\n\r\nok")
    connection = await request
    answer = await rest_of(connection)
    pool.release(connection)
    return answer


@asynccontextmanager
async def requested() -> AsyncIterator[tuple[ConnectionPool, Steered, asyncio.Task[Connection]]]:
    """Yields a pool, an engine's connection with a pending request, and the task of that
    request."""
    async with connected(Steered) as (pool, engine):
        request = asyncio.create_task(pool.request(HEAD, BODY))
        yield pool, await engine.asked(), request


async def rest_of(connection: Connection) -> bytes:
    answer = b""
    while piece := await connection.read():
        answer += piece
    return answer


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


async def test_a_forwarded_body_is_given_as_it_comes_off_the_wire() -> None:
    async with requested() as (_, upstream, request):
        upstream.begin_stream(b"a")
        connection = await request
        given = Pieces()
        forwarding = asyncio.create_task(connection.forward(given.take, given.take_chunk))
        await eventually(lambda: given == [b"a"])
        upstream.send(b"b")
        await eventually(lambda: given == [b"a", b"b"])
        upstream.send(b"c")
        await eventually(lambda: len(given) == 3)
        upstream.end_stream()
        assert await forwarding
        assert given == [b"a", b"b", b"c"]
        assert connection.reusable


LAST = b"0\r\n\r\n"
EVENTS = [b"data: one\n\n", b"data: %b\n\n" % (b"2" * 300), b"data: three\n\n", b"data: 4\n\n"]


async def forwarded(
    *reads: bytes, head: bytes = STREAM_HEAD, given: Pieces | None = None
) -> Pieces:
    """Returns how a body is forwarded that arrives in these reads, the first of them with the
    head."""
    connection, transport = Connection(), Mock(asyncio.Transport)
    connection.connection_made(transport)
    asking = asyncio.create_task(connection.request(HEAD, BODY))
    await asyncio.sleep(0)
    connection.data_received(head + reads[0])
    await asking
    given = Pieces() if given is None else given
    forwarding = asyncio.create_task(connection.forward(given.take, given.take_chunk))
    await asyncio.sleep(0)
    for read in reads[1:]:
        connection.data_received(read)
    assert await forwarding
    assert connection.reusable
    return given


async def test_whole_chunks_of_whole_events_keep_their_framing() -> None:
    chunks = list(map(chunk, EVENTS))
    given = await forwarded(*chunks, LAST)
    assert given == EVENTS
    assert given.chunks == chunks[2:]  # The second tells that the parser stands between chunks.


NO_CHUNKS = [
    pytest.param([chunk(b"data: "), chunk(b"three\n\n")[:-1], b"\n"], id="in two reads"),
    pytest.param([b"d\r\n", b"data: 12\r\n3\n\n\r\n"], id="its size in a read of its own"),
    pytest.param([b"1", b"2\r\n2\r\ndata: 1234567\n\n\r\n"], id="cut within the size"),
    pytest.param([b"1e\r\n12345", chunk(b"data: 01234567890\n\n"), b"\r\n"], id="a chunk within"),
    pytest.param([chunk(b"a\n\n") + chunk(b"b\n\n")], id="two in a read"),
    pytest.param([chunk(b"a\n\n") + b"4\r\n", b"b\n\n\n\r\n"], id="and the next one's size"),
    pytest.param([chunk(b"a\n\n") + b"5\r\nb\n\n", b"\n\n\r\n"], id="and some of the next one"),
    pytest.param([b"C\r\ndata: 1234\n\n\r\n"], id="size in capitals"),
    pytest.param([b"0c\r\ndata: 1234\n\n\r\n"], id="size with a zero before"),
    pytest.param([b"c;a=b\r\ndata: 1234\n\n\r\n"], id="with an extension"),
    pytest.param([chunk(b"data: 1\r\n\r\n")], id="ends otherwise"),
    pytest.param([chunk(b"data: " + b"x" * 5000 + b"\n\n")], id="large"),
]


@pytest.mark.parametrize("reads", NO_CHUNKS)
async def test_other_reads_go_through_the_parser(reads: list[bytes]) -> None:
    event = chunk(b"data: event\n\n")
    given = await forwarded(event, event, event, *reads, event, event, LAST)
    at_once = await forwarded(b"".join([event, event, event, *reads, event, event]), LAST)
    assert b"".join(given) == b"".join(at_once)
    assert set(given.chunks) == {event}
    assert not at_once.chunks


async def test_wherever_the_reads_are_cut_the_body_is_the_same() -> None:
    stream = b"".join(map(chunk, [*EVENTS[:1], b"data: c\n\n\r\n", *EVENTS[2:]])) + LAST
    body = b"".join([*EVENTS[:1], b"data: c\n\n\r\n", *EVENTS[2:]])
    before = chunk(b"\n\n")
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            cut = stream[:first], stream[first:second], stream[second:]
            given = await forwarded(before, before, *filter(None, cut))
            assert b"".join(given) == b"\n\n\n\n" + body


async def test_a_body_of_known_length_has_no_chunks_though_it_look_like_them() -> None:
    chunks = list(map(chunk, EVENTS))
    length = b"content-length: %d\r\n\r\n" % len(b"".join(chunks))
    given = await forwarded(*chunks, head=OK_HEAD % b"text/event-stream" + length)
    assert given == chunks
    assert not given.chunks


async def test_what_is_not_taken_as_a_chunk_is_given_without_its_framing() -> None:
    class Choosy(Pieces):
        def take_chunk(self, chunk: bytes) -> bool:
            return b"three" not in chunk and super().take_chunk(chunk)

    given = await forwarded(*map(chunk, [*EVENTS, *EVENTS]), LAST, given=Choosy())
    assert given == [*EVENTS, *EVENTS]
    assert given.chunks == [chunk(e) for e in [EVENTS[3], *EVENTS[:2], EVENTS[3]]]


async def test_who_takes_no_more_is_given_the_rest_when_asked_again() -> None:
    async with requested() as (pool, upstream, request):
        upstream.begin_stream()
        sent = bytes(range(256)) * 65536
        upstream.send(sent)
        upstream.end_stream()
        connection = await request
        given, calls = b"", 1

        def take_one(piece: bytes) -> bool:
            nonlocal given
            given += piece
            return False

        while not await connection.forward(take_one, never):
            calls += 1
            assert sum(map(len, connection._body)) < 1024 * 1024
        assert given == sent
        assert calls > 10
        assert connection.reusable
        pool.release(connection)
        assert await answer_after(pool, type(upstream)) == b"ok"
        assert upstream.accepted == 1


async def test_an_error_of_who_takes_ends_the_forwarding() -> None:
    async with requested() as (pool, upstream, request):
        upstream.begin_stream()
        connection = await request

        def take(piece: bytes) -> bool:
            raise ValueError(piece)

        forwarding = asyncio.create_task(connection.forward(take, never))
        await asyncio.sleep(0)
        upstream.send(b"a")
        with pytest.raises(ValueError, match="a"):
            await forwarding
        pool.release(connection)
        await upstream.closed.wait()


async def test_what_came_before_the_break_is_forwarded_before_the_error() -> None:
    async with requested() as (_, upstream, request):
        upstream.begin_stream(b"a", b"b")
        upstream.transport.close()
        connection = await request
        await eventually(lambda: connection._error)
        given = Pieces()
        with pytest.raises(UpstreamError):
            await connection.forward(given.take, given.take_chunk)
        assert given == [b"ab"]


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

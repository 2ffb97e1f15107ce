"""Bodies of engines' answers, as they are forwarded off the wire."""

import asyncio
from unittest.mock import Mock

import pytest

from serving.router.replicas.upstream import Connection, ConnectionPool, UpstreamError, body_of
from tests.router.replicas.upstream import BODY, HEAD, requested, rest_of
from tests.support.engines import Steered
from tests.support.stand_in_engine import OK_HEAD, STREAM_HEAD, chunk
from tests.support.waiting import eventually


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

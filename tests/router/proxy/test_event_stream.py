"""How the pieces of a stream are relayed and counted."""

from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine.resumption import comment
from serving.engine_protocol import RESUMPTION
from serving.router.proxy.error_event import EngineError
from serving.router.proxy.event_stream import EventStream
from serving.router.proxy.stream_resumption import CHAT, StreamResumption
from serving.router.proxy.usage import reported_output_tokens
from serving.router.telemetry.latency import Latency, StreamClock
from tests.support.stand_in_engine import DONE, WORD, chunk, server_sent, stream_events, usage_event

FIRST, TOKEN, LAST = stream_events("id", "m")
LAST_STEP = b'[0,"%b","length",null]' % WORD.encode()
DIED = server_sent({"error": {"message": "EngineCore died", "code": 500}})


class Client:
    """The other end of uvicorn's `send`."""

    def __init__(self) -> None:
        self.transport = self.flow = self
        self.closing = self.write_paused = False
        self.got: list[bytes] = []
        self.write = self.got.append

    def is_closing(self) -> bool:
        return self.closing

    async def send(self, message: Any) -> None:
        raise AssertionError(message)


def stream_to(client: Client, told: bool = True) -> tuple[EventStream, Any]:
    """`told` is whether the engine tells the tokens of its events."""
    exchange: Any = SimpleNamespace(
        send=client.send,
        resumption=StreamResumption(CHAT, b'{"messages": []}', ""),
        request=SimpleNamespace(answer=None),
        turn=None,
        record=SimpleNamespace(output_tokens=0),
        clock=StreamClock(0.0, Latency(), itl := Latency()),
        itl=itl,
    )
    exchange.resumption.answered([(RESUMPTION, b"mark")] if told else [])
    return EventStream(exchange), exchange


def test_chunks_of_events_go_on_as_they_are_and_are_counted() -> None:
    client = Client()
    stream, exchange = stream_to(client)
    tokens = [*[TOKEN] * 40, TOKEN + TOKEN]
    ends = usage_event("id", "m", 43) + DONE
    assert not stream.take_chunk(chunk(comment(FIRST)))
    assert stream.take(comment(FIRST))
    for one in map(chunk, tokens):
        assert stream.take_chunk(one)
        assert client.got[-1] is one
    for events in (comment(LAST, [LAST_STEP]), comment(ends, [b"null"])):
        assert not stream.take_chunk(chunk(events))
        assert stream.take(events)
    stream.count()
    assert client.got == list(map(chunk, [FIRST, *tokens, LAST, ends]))
    assert reported_output_tokens(stream.last_events) == 43
    other, by_pieces = stream_to(Client())
    for event in (comment(FIRST), *tokens, comment(LAST, [LAST_STEP]), comment(ends, [b"null"])):
        assert other.take(event)
    assert (
        exchange.record.output_tokens == by_pieces.record.output_tokens == 45
    )  # with FIRST, usage
    edges_s = [1e-4]
    assert exchange.itl.buckets(edges_s)[-1] == by_pieces.itl.buckets(edges_s)[-1]
    assert exchange.resumption.broken() and by_pieces.resumption.broken()
    assert exchange.resumption.continuation(0) == by_pieces.resumption.continuation(0)
    assert exchange.resumption.continuation(0)[-1] == 43


def test_an_error_of_the_engine_is_not_passed_on_among_the_chunks() -> None:
    client = Client()
    stream, exchange = stream_to(client)
    stream.take(comment(FIRST))
    for _ in range(3):
        assert stream.take_chunk(chunk(TOKEN))
    for events in (comment(DIED), TOKEN + comment(DIED)):
        assert not stream.take_chunk(chunk(events))
        with pytest.raises(EngineError):
            stream.take(events)
    assert client.got == list(map(chunk, [FIRST, TOKEN, TOKEN, TOKEN]))
    assert not exchange.resumption.broken()
    assert exchange.resumption.continuation(0)[-1] == 3


def test_an_error_of_an_engine_that_tells_no_tokens_is_not_passed_on_either() -> None:
    client = Client()
    stream, _ = stream_to(client, told=False)
    stream.take(FIRST)
    assert stream.take_chunk(chunk(TOKEN))
    assert not stream.take_chunk(chunk(DIED))
    with pytest.raises(EngineError):
        stream.take(DIED)
    assert client.got == list(map(chunk, [FIRST, TOKEN]))


def test_within_an_event_no_chunk_goes_on_as_it_is() -> None:
    client = Client()
    stream, _ = stream_to(client)
    stream.take(FIRST)
    stream.take(TOKEN[:10])
    assert not stream.take_chunk(chunk(TOKEN[10:]))
    stream.take(TOKEN[10:])
    assert stream.take_chunk(chunk(TOKEN))
    assert client.got == list(map(chunk, [FIRST, TOKEN, TOKEN]))


def test_a_slow_client_is_sent_some_more_chunks_and_then_no_more() -> None:
    client = Client()
    stream, _ = stream_to(client)
    assert stream.take(FIRST)
    client.write_paused = True
    more = 0
    while stream.take_chunk(chunk(TOKEN)):
        more += 1
        assert more < 100
    assert not stream.take_chunk(chunk(TOKEN))
    assert not stream.take(TOKEN)
    client.write_paused = False
    assert stream.take(TOKEN)
    assert stream.take_chunk(chunk(TOKEN))
    assert client.got == list(map(chunk, [FIRST, *[TOKEN] * (more + 3)]))


def test_a_client_that_has_gone_is_written_nothing() -> None:
    client = Client()
    stream, _ = stream_to(client)
    stream.take(FIRST)
    client.closing = True
    assert not stream.take_chunk(chunk(TOKEN))
    assert stream.take(TOKEN)
    assert client.got == [chunk(FIRST)]

"""Server-sent events are parsed wherever they are divided."""

from collections.abc import AsyncIterator

import pytest

from serving.conformance.events import Event, events
from serving.conformance.expect import CheckFailed

STREAM = (
    'data: {"a": "こんにちは 👋"}\n\n: keep-alive\n\nevent: x\r\ndata: 1\r\n\r\ndata: [DONE]\n\n'
)
EVENTS = [Event("", '{"a": "こんにちは 👋"}'), Event("x", "1"), Event("", "[DONE]")]


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(data: bytes, size: int = 1000) -> list[Event]:
    return [event async for event in events(pieces(data, size))]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_do_not_depend_on_the_cuts(size: int) -> None:
    assert await read(STREAM.encode(), size) == EVENTS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"data: \xe3\x81\n\n", "not UTF-8"),
        (b"data: 1\n\ndata: 2", "ends within an event"),
        (b'{"error": 1}\n\n', "no event"),
    ],
)
async def test_what_is_no_stream_fails(data: bytes, reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason):
        await read(data)


def test_data_that_is_not_json_fails() -> None:
    with pytest.raises(CheckFailed, match="not JSON"):
        Event("", "{").json()

"""Server-sent events, parsed strictly from the bytes of a response."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from .expect import CheckFailed, expect

DONE = "[DONE]"


@dataclass(frozen=True)
class Event:
    """A server-sent event. `name` is "" in OpenAI's chat streams; `data` is its text."""

    name: str
    data: str

    def json(self) -> Any:
        try:
            return json.loads(self.data)
        except ValueError:
            raise CheckFailed(f"an event is not JSON: {self.data[:200]!r}") from None


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """Yields the events of a stream, however its bytes are divided. Fails the check on bytes that
    are not an event, on broken UTF-8, and on a stream that ends within an event."""
    rest = b""
    async for piece in pieces:
        rest += piece
        *blocks, rest = rest.replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            if (event := _event(block)) is not None:
                yield event
    expect(not rest.strip(), f"the stream ends within an event: {rest[-200:]!r}")


def _event(block: bytes) -> Event | None:
    """Parses one block. Returns None for comments, which servers send to keep a connection open."""
    try:
        lines = block.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise CheckFailed(f"an event is not UTF-8: {block[:200]!r}") from None
    name, data = "", []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        else:
            expect(field in ("", "id", "retry"), f"a line that is no event: {line[:200]!r}")
    return Event(name, "\n".join(data)) if data else None

"""The events of a streamed response in the background, as clients are told them."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.engine_protocol import COMMENT
from serving.router.responses.objects import JsonObject, encoded, parsed
from serving.router.responses.store import News

_HEAD = re.compile(rb'event: ([\w.]+)\ndata: \{"type":"[\w.]+","sequence_number":(\d+)')
"""How the events of our own engines begin."""
_BEGINNINGS = ("response.created", "response.queued", "response.in_progress")
"""Events that the router writes itself, as it knows of them before an engine does."""
_OWN = tuple(f"event: {name}\n".encode() for name in _BEGINNINGS)
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_COMMENTS = re.compile(rb"(?::.*\n)+")
_MARK = b":mark "
"""The beginning of the comment, before the first event of an answer, with the answer's mark and the
prompt tokens that its engine had cached."""
_FIRST_TWO = b"event: response.created\n\nevent: response.in_progress\n\n"
"""Stands for the first events of every engine, which the log has in another form."""
_STATUSES = {"rate_limit_error": 429, "invalid_request_error": 400}
"""The HTTP statuses of errors that are not the server's."""


@dataclass(frozen=True, slots=True)
class Told:
    """What clients have of an answer, as its engines wrote it."""

    mark: bytes
    """See `serving.engine_protocol.RESUMPTION`; empty if the answer cannot be continued."""
    cached_tokens: int
    events: bytes


class EventLog:
    """Numbers the events of a stream from 0, whichever engines they come from, and keeps the
    comments by which another engine continues them. Clients are told those that are stored: what
    they have seen, another router can continue."""

    def __init__(self, has_news: Callable[[], None], events: Sequence[bytes] = ()) -> None:
        """`events` are in the store already. `has_news` is called when more must be stored."""
        self.final: JsonObject | None = None
        """The response object with which the engine ended the stream."""
        self.error: tuple[str, int] | None = None
        """The message of the error that ended it, and its HTTP status."""
        self._has_news = has_news
        self._events = list(events)
        self._stored = len(self._events)
        self.size_bytes = sum(map(len, self._events))
        self._partial = b""
        self._comments: list[bytes] = []
        """Those that belong to the next event."""
        self._changed = asyncio.Event()

    def begins(self, mark: bytes, cached_tokens: int) -> None:
        """Notes that an engine begins the answer, of which it had these prompt tokens cached."""
        self._comments = [b"%b%b %d\n" % (_MARK, mark, cached_tokens)] if mark else []

    def told_before(self) -> Told | None:
        """Returns what another router has told of the answer; None if that is nothing."""
        events = b"".join(event for event in self._events if not event.startswith(_OWN))
        if not events.startswith(_MARK):
            return Told(b"", 0, b"") if events else None
        mark_line, first_comment, rest = events.split(b"\n", 2)
        mark, cached_tokens = mark_line.removeprefix(_MARK).split(b" ")
        return Told(mark, int(cached_tokens), b"%b\n%b%b" % (first_comment, _FIRST_TWO, rest))

    def feed(self, data: bytes) -> None:
        """Takes bytes of the stream as a client would get it."""
        *events, self._partial = (self._partial + data).split(b"\n\n")
        for event in events:
            self._take(event)

    def write(self, name: str, response: JsonObject) -> None:
        """Adds an event of the router's own."""
        self._add(_written(name, len(self._events), {"response": response}))

    def news(self) -> News:
        """Returns what is not yet known to be stored."""
        return News(self._stored, self._events[self._stored :])

    def stored(self, news: News) -> None:
        self._stored = max(self._stored, news.first + len(news.events))
        self.wake()

    async def from_(self, first: int, timeout_s: float) -> list[bytes]:
        """Returns the stored events from that number on; if there are none, once there is news."""
        if first >= self._stored:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return []
        return self._events[first : self._stored]

    def wake(self) -> None:
        """Wakes whoever waits for more: there is some, or none comes."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _take(self, event: bytes) -> None:
        while event.startswith(b":"):
            comment, _, event = event.partition(b"\n")
            if comment.startswith(COMMENT):
                self._comments.append(comment + b"\n")
        if (head := _HEAD.match(event)) is not None:
            name = head[1].decode()
        else:  # another server's form, or the router's own error
            fields = parsed(event.partition(b"data:")[2])
            name = str(fields.get("type"))
            if not name.startswith(("response.", "error")):
                return
        if name in _BEGINNINGS:
            return
        if name in _ENDS or name == "error":
            self._end(name, parsed(event.partition(b"data:")[2]))
        elif head is not None:
            number = b"%d" % len(self._events)
            self._add(b"%b%b%b\n\n" % (event[: head.start(2)], number, event[head.end(2) :]))
        else:
            self._add(_written(name, len(self._events), fields))

    def _end(self, name: str, fields: dict[str, Any]) -> None:
        if name != "error":
            response = fields.get("response")
            self.final = response if isinstance(response, dict) else None
            return
        error = fields.get("error")
        kind = error.get("type") if isinstance(error, dict) else None
        self.error = str(fields.get("message")), _STATUSES.get(str(kind), 500)

    def _add(self, event: bytes) -> None:
        if self._comments:
            event = b"".join([*self._comments, event])
            self._comments.clear()
        self._events.append(event)
        self.size_bytes += len(event)
        self._has_news()


def told(events: Sequence[bytes]) -> bytes:
    """Returns events as clients are sent them: without comments."""
    return b"".join([_COMMENTS.sub(b"", e, 1) if e.startswith(b":") else e for e in events])


def _written(name: str, number: int, fields: dict[str, Any]) -> bytes:
    data = encoded({"type": name, "sequence_number": number} | _others(fields))
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _others(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in ("type", "sequence_number")}

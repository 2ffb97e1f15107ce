"""Relays the events of an engine's stream to the client."""

import re
from collections import deque
from operator import methodcaller
from time import monotonic

from serving.router.http.server import response_of
from serving.router.proxy.exchange import Exchange
from serving.router.proxy.stream_resumption import CHAT, COMPLETIONS, DONE
from serving.router.replicas.upstream import body_of
from serving.router.responses.final_event import FinalEvent

ENDS_WITH_DONE = frozenset((CHAT, COMPLETIONS))
"""Paths whose streams have an end that all servers send."""

_MOST_UNCOUNTED = 32
_END = re.compile(rb'^data: ?\[DONE\]|"finish_reason":\s*"', re.M)
"""The end of a stream or of a choice. Generated text cannot match it, as it is escaped."""


class EventStream:
    """The event stream of one engine, after the response head was sent to the client.

    Most events arrive whole, each in its own HTTP chunk, and are relayed unchanged. Token counts
    and times are extracted from batches of events, which is cheaper per event.
    """

    __slots__ = (
        "_chunks",
        "_exchange",
        "_final",
        "_flow",
        "_is_closing",
        "_last",
        "_passes",
        "_special_mark",
        "_times_s",
        "_write",
    )

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        response = response_of(exchange.send)
        self._flow = response.flow
        self._write, self._is_closing = response.transport.write, response.transport.is_closing
        self._special_mark = exchange.resumption.special_mark
        self._passes = False
        self._chunks: list[bytes] = []
        self._times_s: list[float] = []
        self._last = deque[bytes](maxlen=2)
        stores = exchange.turn is not None and exchange.turn.stores
        self._final = FinalEvent() if stores and exchange.run is None else None

    def take(self, piece: bytes) -> bool:
        """Relays what can be sent now that `piece` has arrived. Returns False if the client reads
        too slowly. Raises EngineError."""
        self.count()
        self._passes = False
        events = self._exchange.resumption.feed(piece)
        return self.send(events) if events else True

    def take_chunk(self, chunk: bytes) -> bool:
        """Relays whole events unchanged, in a chunk with its framing. Returns False if the chunk
        has to go through `take`."""
        # `in` would raise an exception internally each time, as it tries an integer first. Calls
        # straight from a slot repeat the type lookup (Python 3.11).
        is_closing, write = self._is_closing, self._write
        if not self._passes or chunk.find(self._special_mark) >= 0 or is_closing():
            return False
        write(chunk)
        chunks = self._chunks
        chunks.append(chunk)
        self._times_s.append(monotonic())
        if len(chunks) == _MOST_UNCOUNTED:
            self.count()
            self._passes = not self._flow.write_paused
        return True

    def send(self, events: bytes) -> bool:
        """Relays events that came through the resumption; returns as `take` does."""
        answer, resumption = self._exchange.request.answer, self._exchange.resumption
        tokens = _tokens(events)
        self._exchange.record.output_tokens += tokens
        self._last.append(events)
        self._passes = answer is None and resumption.passes
        if answer is not None:
            events = answer.feed(events)
            if not events:
                return True
        if self._final is not None:
            self._final.feed((events,))
        self._exchange.clock.sent(tokens, monotonic())
        if not self._is_closing():
            self._write(b"%x\r\n%b\r\n" % (len(events), events))
        return not self._flow.write_paused

    def count(self) -> None:
        """Accounts for all relayed events; called when the stream has ended in any way."""
        if not self._chunks:
            return
        exchange = self._exchange
        pieces = list(map(body_of, self._chunks))
        exchange.resumption.passed_on(pieces)
        if self._final is not None:
            self._final.feed(pieces)
        tokens = list(map(_event_count, pieces))
        tokens[-1] -= pieces[-1].endswith(DONE)
        exchange.record.output_tokens += sum(tokens)
        exchange.clock.all_sent(tokens, self._times_s)
        self._last += pieces[-2:]
        self._chunks.clear()
        self._times_s.clear()

    def count_tokens(self) -> int:
        """Returns the tokens of the answer so far."""
        self.count()
        return self._exchange.record.output_tokens

    def final_response(self) -> bytes | None:
        """The data of the event that has the whole response, if that is to be stored."""
        return None if self._final is None else self._final.data()

    def finished(self) -> bool:
        """Whether the stream had an end, or at least a finish reason. The server of llama.cpp's
        Python package ends it without either where it fails."""
        return _END.search(self.last_events) is not None

    @property
    def last_events(self) -> bytes:
        """The last events, which may report the usage of the whole answer."""
        return b"".join(self._last)


_event_count = methodcaller("count", b"\n\n")


def _tokens(events: bytes) -> int:
    return events.count(b"\n\n") - events.endswith(DONE)

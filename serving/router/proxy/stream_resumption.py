"""Has another engine continue a streamed answer where the first one stopped.

Engines tell the tokens of the events that they write, in comments and by the events' text (see
`RESUMPTION`). Until a stream breaks, what was delivered is only stored. Then it is read: the next
engine is sent the original request with the tokens so far, and writes what the client lacks. A
client is only sent whole events.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from serving.asgi import Headers
from serving.engine_protocol import (
    BEGIN,
    COMMENT,
    LAST,
    NOT_RESUMABLE,
    RESUMPTION,
    Delivered,
    Handover,
)
from serving.router.proxy.error_event import error_mark, raise_engine_error
from serving.router.replicas.upstream import UpstreamError

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

DONE = b"data: [DONE]\n\n"

_FOLD_BYTES = 64 * 1024
"""How many stored bytes are read at once; it bounds the memory that a long answer takes."""

_LONGEST_EVENT_BYTES = 1024 * 1024

_UNTOLD = b"its engine does not tell its tokens"

_ASKED = RESUMPTION + b": %b\r\n"
"""The header of a request whose answer can be continued."""

_COMMENT_LINES = re.compile(b"^" + COMMENT + rb".*\n", re.M)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.encode
_decode_handover = msgspec.json.Decoder(Handover).decode


class NotContinuedError(UpstreamError):
    """The replica is healthy but does not continue the delivered answer."""


class DeliveredEvents:
    """The events that a client has, and the tokens that they are of."""

    def __init__(self) -> None:
        self.events = 0
        self.unreadable = False
        """Whether the engine wrote other events than those of the protocol."""
        self._steps: list[bytes] = []
        self._covered = 0
        """How many of the next events the last comment is about."""
        self._is_last = False

    @property
    def complete(self) -> bool:
        """Whether the client has the whole answer."""
        return self._is_last and not self._covered

    def read(self, events: bytes) -> None:
        steps = []
        try:
            for event in events.split(b"\n\n")[:-1]:
                if event.startswith(COMMENT):
                    steps += self._comment(event[len(COMMENT) : event.index(b"\n")])
                elif not self._covered:
                    steps.append(_step_of(event))
                    self._covered = 1
                self._covered -= 1
                self.events += 1
        except (ValueError, LookupError, TypeError, AttributeError, msgspec.DecodeError):
            self.unreadable = True
        if steps:
            self._steps.append(b",".join(steps))

    def _comment(self, comment: bytes) -> list[bytes]:
        count, _, steps = comment.partition(b",")
        self._covered = int(count)
        self._is_last = steps.endswith(LAST)
        steps = steps.removesuffix(LAST).rstrip(b",")
        return [steps] if steps else []

    def handover(self, cached_tokens: int) -> bytes:
        """Returns the `Handover` in JSON."""
        steps = b",".join(self._steps)
        return b'{"events":%d,"cached_tokens":%d,"steps":[%b]}' % (
            self.events,
            cached_tokens,
            steps,
        )


def _step_of(event: bytes) -> bytes:
    """Returns the step of an event without a comment."""
    data: dict[str, Any] = _decode(event[event.index(b"data: ") + 6 :])
    choice, text = 0, data.get("delta")
    if "choices" in data:
        (one,) = data["choices"]
        choice, text = one["index"], one.get("text")
        if text is None:
            text = one["delta"]
    if isinstance(text, dict):
        if "tool_calls" in text:
            text = text["tool_calls"][0]["function"]["arguments"]
        else:
            text = next(text[name] for name in _TEXTS if name in text)
    if not isinstance(text, str):
        raise TypeError
    return _encode(Delivered(choice, text))


_TEXTS = ("content", "reasoning", "text", "thinking", "partial_json")
"""The names that the text of a token has in a delta of the APIs."""


class StreamResumption:
    """A streamed answer from its first event on, however many engines contribute to it."""

    def __init__(self, path: str, request: bytes, unresumable_reason: str) -> None:
        """`request` is the body that the engine is sent."""
        self.unresumable_reason = self._never = unresumable_reason
        """Why the stream cannot be continued; empty if it can."""
        self.within_event = False
        """Whether the client has been sent the beginning of an event without its end."""
        self.keeps_comments = False
        """Whether `feed` returns events with their comments, for a log that another router can
        continue them from."""
        self._error_mark = error_mark(path)
        self._request = request
        self._mark = b""
        self._partial = b""
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._delivered = DeliveredEvents()

    @property
    def special_mark(self) -> bytes:
        """The bytes that a chunk has, framing included, if it may not be relayed unchanged.
        Generated text cannot contain them, as its quotes and line breaks are escaped."""
        return self._error_mark if self.unresumable_reason else b"\n" + COMMENT

    @property
    def mark(self) -> bytes:
        """The mark of the answer; empty if it cannot be continued."""
        return b"" if self.unresumable_reason else self._mark

    def goes_on(self, mark: bytes, events: bytes) -> None:
        """Takes over a stream of another router: the answer's mark, and the events that the client
        has, with their comments."""
        self._mark = mark
        if not mark:
            self.unresumable_reason = self._never or _UNTOLD.decode()
        self.passed_on([events])

    def request_header(self) -> bytes:
        """Returns the header of a request that begins the answer."""
        return b"" if self._never else _ASKED % BEGIN

    def answered(self, headers: Headers) -> None:
        """Reads the head of the response that begins the stream."""
        told = dict(headers)
        self._mark, self._partial = told.get(RESUMPTION, b""), b""
        why_not = b"" if self._mark else told.get(NOT_RESUMABLE, _UNTOLD)
        self.unresumable_reason = self._never or why_not.decode("latin-1")

    def feed(self, piece: bytes) -> bytes:
        """Returns what may be sent to the client now that `piece` has arrived. Raises
        EngineError."""
        if self.unresumable_reason:
            piece, self._partial = self._partial + piece, b""
            raise_engine_error(piece, self._error_mark)
            self.within_event = not piece.endswith(b"\n\n")
            return piece
        if self._partial or not piece.endswith(b"\n\n"):
            piece = self._whole_events(piece)
        raise_engine_error(piece, self._error_mark)
        self.passed_on([piece])
        return piece if self.keeps_comments else _COMMENT_LINES.sub(b"", piece)

    @property
    def passes(self) -> bool:
        """Whether the next piece may be relayed unchanged, if it consists of whole events without
        the `special_mark`; `passed_on` must be called for it later."""
        return not self._partial and not self.within_event

    def passed_on(self, pieces: Sequence[bytes]) -> None:
        """Records whole events that were relayed, with their comments."""
        if self.unresumable_reason:
            return
        self._kept += pieces
        self._kept_bytes += sum(map(len, pieces))
        if self._kept_bytes > _FOLD_BYTES:
            self._read_kept()

    def end(self) -> bytes:
        """Returns what is left when the stream has ended; empty if it ended properly."""
        return self._partial

    def _whole_events(self, piece: bytes) -> bytes:
        data = self._partial + piece
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            end = 0
            if len(data) > _LONGEST_EVENT_BYTES:
                self.unresumable_reason, self.within_event = "an event is too long", True
                end = len(data)
        self._partial = data[end:]
        return data[:end]

    def _read_kept(self) -> None:
        self._delivered.read(b"".join(self._kept))
        self._kept.clear()
        self._kept_bytes = 0
        if self._delivered.unreadable:
            self.unresumable_reason = _UNTOLD.decode()

    def broken(self) -> bool:
        """Called when the stream broke. Returns whether the client has the whole answer all the
        same; otherwise it has to continue, unless there is an `unresumable_reason`."""
        self._partial = b""
        self._read_kept()
        return self._delivered.complete

    def continuation(self, cached_tokens: int) -> tuple[bytes, bytes, int]:
        """Returns the header and the body of the request to continue the answer, and the number of
        the tokens in it. `cached_tokens` are what the first engine had cached of the prompt."""
        handover = self._delivered.handover(cached_tokens)
        header = _ASKED % b"%b %d" % (self._mark, len(self._request))
        steps = _decode_handover(handover).steps
        carried = sum(1 if isinstance(step.tokens, str) else len(step.tokens) for step in steps)
        return header, self._request + handover, carried

"""The engine's part in having another engine continue a stream: see `RESUMPTION`."""

import datetime
import hashlib
import random
import string
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from serving.answers.events import Event, Step
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

_ALPHANUMERICS = string.ascii_letters + string.digits
_CALL_ID_CHARACTERS = 9

_decode = msgspec.json.Decoder(Handover).decode
_encode = msgspec.json.Encoder().encode


class Output(Protocol):
    """The part of vLLM's CompletionOutput that is handed over."""

    @property
    def token_ids(self) -> Sequence[int]: ...

    @property
    def finish_reason(self) -> str | None: ...

    @property
    def stop_reason(self) -> int | str | None: ...


class CannotContinueError(Exception):
    """This engine cannot continue the stream; the message says why."""


@dataclass(frozen=True, slots=True)
class AnswerMark:
    """What the engines that write one answer must have in common beside the request."""

    created: int
    """When the answer was begun, in seconds of Unix time."""
    seed: int
    """Decides the ids of the answer's tool calls."""
    vocabulary: int
    """Stands for the model's tokens."""

    @classmethod
    def new(cls, vocabulary: int) -> "AnswerMark":
        return cls(int(time.time()), random.getrandbits(64), vocabulary)

    @classmethod
    def read(cls, text: bytes) -> "AnswerMark":
        created, seed, vocabulary = text.split(b"-")
        return cls(int(created), int(seed), int(vocabulary))

    def __bytes__(self) -> bytes:
        return b"%d-%d-%d" % (self.created, self.seed, self.vocabulary)

    @property
    def date(self) -> datetime.date:
        return datetime.date.fromtimestamp(self.created)

    def call_ids(self, choice: int) -> Callable[[], str]:
        """Returns what makes the ids of a choice's tool calls, as Mistral's tokenizers want them:
        nine letters and digits."""
        count = 0

        def call_id() -> str:
            nonlocal count
            count += 1
            name = f"{self.created} {self.seed} {choice} {count}".encode()
            number = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())
            digits = []
            for _ in range(_CALL_ID_CHARACTERS):
                number, digit = divmod(number, len(_ALPHANUMERICS))
                digits.append(_ALPHANUMERICS[digit])
            return "".join(digits)

        return call_id


class Continuation:
    """How an answer follows on what another engine wrote of it, and may be followed on."""

    def __init__(
        self, mark: AnswerMark, request: bytes, wanted: bool, handover: Handover | None
    ) -> None:
        self.mark = mark
        self.request = request
        """The body of the request that began the answer."""
        self.wanted = wanted
        """Whether the router may have this stream continued."""
        self._handover = handover
        self._why_not = ""

    @classmethod
    def of(cls, header: bytes, body: bytes, vocabulary: int) -> "Continuation":
        """Reads what a request has in its header `RESUMPTION` and its body. Raises
        CannotContinueError."""
        if header in (b"", BEGIN):
            return cls(AnswerMark.new(vocabulary), body, header == BEGIN, None)
        try:
            text, length = header.split(b" ")
            mark, end = AnswerMark.read(text), int(length)
            handover = _decode(body[end:])
        except (ValueError, msgspec.MsgspecError) as error:
            raise CannotContinueError("what was delivered cannot be read") from error
        if mark.vocabulary != vocabulary:
            raise CannotContinueError("the answer was begun by a model with other tokens")
        return cls(mark, body[:end], True, handover)

    @property
    def steps(self) -> Sequence[Delivered]:
        """The tokens that another engine generated."""
        return () if self._handover is None else self._handover.steps

    @property
    def cached_tokens(self) -> int:
        return 0 if self._handover is None else self._handover.cached_tokens

    def undelivered(self) -> "Undelivered":
        delivered = 0 if self._handover is None else self._handover.events
        return Undelivered(delivered, self.wanted and not self._why_not)

    @property
    def headers(self) -> Headers:
        """The response headers that tell the router whether it may have the stream continued."""
        if not self.wanted:
            return []
        if self._why_not:
            return [(NOT_RESUMABLE, self._why_not.encode())]
        return [(RESUMPTION, bytes(self.mark))]

    def allow(self, why_not: str) -> None:
        """Notes why this stream cannot be continued; empty if it can. Raises CannotContinueError if
        it is to continue another."""
        if why_not and self._handover is not None:
            raise CannotContinueError(why_not)
        self._why_not = why_not

    def comments(
        self, choices: int, ids: Mapping[str, int], told_by: Collection[type[Event]]
    ) -> "TokenComments | None":
        """Returns what writes the stream's comments, if it may be continued."""
        if not self.wanted or self._why_not:
            return None
        return TokenComments(choices, ids, told_by)


class Undelivered:
    """Tells which events of a stream that is written anew the client lacks."""

    def __init__(self, delivered: int, told: bool) -> None:
        """`delivered` is the number of events that it has. `told` is whether the stream has
        comments."""
        self._skipped = delivered
        self._told = told

    def of(self, stream: bytes, steps: Sequence[bytes] = ()) -> bytes:
        """Returns what the client lacks of the next events, which are not of new tokens. `steps`
        end their comment."""
        events = stream.split(b"\n\n")[:-1]
        lacked = events[self._skipped :]
        self._skipped -= len(events) - len(lacked)
        written = b"".join(event + b"\n\n" for event in lacked)
        return comment(written, steps) if lacked and self._told else written

    def goes_on(self) -> None:
        """Called when something new was generated. Raises CannotContinueError if the client has
        events that are not of the tokens which were handed over."""
        if self._skipped:
            raise CannotContinueError("the delivered events are not those of the tokens")


class TokenComments:
    """Writes the comments that tell the tokens of a stream's events.

    Tokens that add no event of their own are told with the choice's next event: if that never
    comes, the client has nothing of them.
    """

    def __init__(
        self, choices: int, ids: Mapping[str, int], told_by: Collection[type[Event]]
    ) -> None:
        """`ids` are those of tokens by their texts; the API writes events of the types `told_by`,
        which have a text, with that unchanged."""
        self._held: list[list[bytes]] = [[] for _ in range(choices)]
        self._ids = ids
        self._told_by = told_by

    def before(
        self,
        piece: bytes,
        choice: int,
        step: Step,
        output: Output,
    ) -> bytes:
        """Returns the events that `step` of vLLM's `output` has added, with a comment if need
        be."""
        held, events, token_ids = self._held[choice], step.events, output.token_ids
        event = events[0] if len(events) == 1 else None
        if (
            type(event) in self._told_by
            and len(token_ids) == 1
            and output.finish_reason is None
            and not held
            and self._ids.get(event.text) == token_ids[0]  # type: ignore[union-attr]
            and piece.count(b"\n\n") == 1
        ):
            return piece
        reason, stop = output.finish_reason, output.stop_reason
        held.append(_encode(Delivered(choice, list(token_ids), reason, stop)))
        if not piece:
            return b""
        piece = comment(piece, held)
        held.clear()
        return piece

    def last(self, piece: bytes) -> bytes:
        """Returns the last events of the stream with their comment."""
        return comment(piece, [*(step for held in self._held for step in held), LAST])


def comment(events: bytes, steps: Sequence[bytes] = ()) -> bytes:
    """Returns events behind a comment that they are of these steps."""
    told = b",".join([b"%d" % events.count(b"\n\n"), *steps])
    return b"%b%b\n%b" % (COMMENT, told, events)

"""Converts answers before the client gets them. Most answers need no change."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serving.mistral.draft import objects_in
from serving.mistral.other_servers import CallFields, HeldCalls, ReasoningField
from serving.mistral.reasoning import ThinkSplitter, reasoning_fields

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.encode
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_ALIAS = re.compile(rb'"([0-9A-Za-z]{9}|[0-9A-Za-z_-]{64})"')
_ALIAS_ANYWHERE = re.compile(
    r"(?<![0-9A-Za-z])"
    r"(?:[0-9A-Za-z]{9}(?![0-9A-Za-z_-])|[0-9A-Za-z_-]{64}(?![0-9A-Za-z_-]))"
)
"""Ids have nine characters, shortened names of tools 64."""


def with_originals(message: str, originals: Mapping[str, str]) -> str:
    """Returns an error message with the client's ids of calls and names of tools in place of those
    that stand for them."""
    if not originals:
        return message
    return _ALIAS_ANYWHERE.sub(lambda found: originals.get(found[0], found[0]), message)


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """How the answer to a request must differ from the engine's."""

    separate_reasoning: bool = False
    """Whether `<think>` text moves from `content` to `reasoning`."""
    incomplete_calls: bool = False
    """Whether another server answers with calls, which may lack an id or a finish reason."""
    whole_calls: bool = False
    """Whether the client takes no pieces of those calls."""
    split_reasoning: bool = False
    """Whether another server may have split the reasoning off."""
    originals: dict[str, str] = field(default_factory=dict)
    """The client's tool call ids and names of tools by those that the engine was sent."""

    def __bool__(self) -> bool:
        return self.reads_choices or bool(self.originals)

    @property
    def reads_choices(self) -> bool:
        """Whether the choices of the answer have to be parsed."""
        of_other_servers = self.incomplete_calls or self.split_reasoning
        return self.separate_reasoning or of_other_servers


class Answer:
    """Converts one answer. A streamed answer gives the same text as a whole one."""

    def __init__(self, rules: AnswerRules) -> None:
        self._rules = rules
        self._reads_choices = rules.reads_choices
        escaped = {new: json.dumps(original)[1:-1] for new, original in rules.originals.items()}
        self._escaped = escaped
        self._aliases = {new.encode(): original.encode() for new, original in escaped.items()}
        self._rest = b""
        self._splitters: dict[Any, ThinkSplitter] = {}
        self._called: set[Any] = set()
        self._reasoning: dict[Any, ReasoningField] = {}
        self._calls: dict[Any, CallFields] = {}
        self._held: dict[Any, HeldCalls] = {}

    def whole(self, body: bytes, status: int) -> bytes:
        """Converts the body of a non-streamed answer or of an error."""
        if status >= 400:
            return with_originals(body.decode("latin-1"), self._escaped).encode("latin-1")
        body = self._with_originals(body)
        if not self._reads_choices:
            return body
        answer = _object(body)
        changed = False
        for choice in objects_in(answer.get("choices")):
            changed |= self._choice(answer, choice, choice.get("message"), is_delta=False)
        return _encode(answer) if changed else body

    def feed(self, piece: bytes) -> bytes:
        """Adds a piece of an event stream, and returns the events that are now complete."""
        data = self._rest + piece
        events = []
        begin = 0
        # An event's end may have begun in the last three bytes before this piece.
        for end in _EVENT_END.finditer(data, max(0, len(self._rest) - 3)):
            events.append(self._event(data[begin : end.end()]))
            begin = end.end()
        self._rest = data[begin:]
        return b"".join(events)

    def end(self) -> bytes:
        """Returns what is left when the stream has ended; empty if it ended properly."""
        rest, self._rest = self._rest, b""
        return rest

    def _event(self, event: bytes) -> bytes:
        event = self._with_originals(event)
        if not self._reads_choices or not event.startswith(b"data: {"):
            return event
        chunk = _object(event[6:])
        changed = False
        for choice in objects_in(chunk.get("choices")):
            changed |= self._choice(chunk, choice, choice.get("delta"), is_delta=True)
        return b"data: " + _encode(chunk) + b"\n\n" if changed else event

    def _choice(
        self, answer: dict[str, Any], choice: dict[str, Any], message: Any, is_delta: bool
    ) -> bool:
        """Converts a choice of a whole answer or of a chunk. Returns whether it was changed."""
        if type(message) is not dict:
            return False
        index = choice.get("index")
        finished = not is_delta or choice.get("finish_reason") is not None
        changed = False
        if self._rules.split_reasoning:
            new = ReasoningField(self._rules.separate_reasoning)
            changed = self._reasoning.setdefault(index, new).move(
                message, choice.get("finish_reason"), is_delta
            )
        if self._rules.separate_reasoning:
            changed |= self._separate(index, message, finished, is_delta)
        if self._rules.incomplete_calls:
            calls = self._calls.setdefault(index, CallFields())
            answer_id = f"{answer.get('id')}:{answer.get('created')}:{index}"
            changed |= calls.complete(message, answer_id, is_delta)
            if message.get("tool_calls"):
                self._called.add(index)
            if choice.get("finish_reason") == "stop" and index in self._called:
                choice["finish_reason"] = "tool_calls"
                changed = True
            if self._rules.whole_calls and is_delta:
                changed |= self._held.setdefault(index, HeldCalls()).hold(message, finished)
        return changed

    def _separate(
        self, index: Any, message: dict[str, Any], finished: bool, is_delta: bool
    ) -> bool:
        splitter = self._splitters.setdefault(index, ThinkSplitter())
        text = message.get("content")
        if type(text) is not str:  # null, beside a tool call
            text = ""
        if not text and not finished:
            return False
        reasoning, content = splitter.feed(text)
        if finished:
            last_reasoning, last_content = splitter.finish()
            reasoning += last_reasoning
            content += last_content
        if content == text and not reasoning:
            return False
        if content or not is_delta:
            message["content"] = content
        else:
            message.pop("content", None)
        if reasoning:
            message.update(reasoning_fields(reasoning))
        return True

    def _with_originals(self, body: bytes) -> bytes:
        """Restores ids and names where they are a whole string: not in the model's text, which is
        cut differently when streamed."""
        if not self._aliases:
            return body
        return _ALIAS.sub(lambda found: b'"' + self._aliases.get(found[1], found[1]) + b'"', body)


def _object(body: bytes) -> dict[str, Any]:
    """Parses a JSON object; returns an empty one if `body` holds anything else."""
    try:
        value = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if type(value) is dict else {}

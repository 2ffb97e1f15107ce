"""Continues a streamed answer on another replica where the first one stopped.

Until a stream breaks, the delivered bytes are only stored. Then they are parsed: the next replica
is given the text so far as the beginning of its own answer, and its events are merged with what the
client already has.

The text can only be cut at a token's edge. Engines end each event at one, so a client is only sent
whole events. Where the engine holds text back to match stop strings, the last edge lies some
characters behind, and what the client has beyond it is generated again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serving.mistral import ModelRules
from serving.mistral.reasoning import CLOSED, OPENED
from serving.router.proxy.error_event import error_mark, raise_engine_error
from serving.router.proxy.request import decode, encode
from serving.router.replicas.upstream import UpstreamError

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

DONE = b"data: [DONE]\n\n"

_FIRST_DELTA = {"role": "assistant", "content": ""}

_FOLD_BYTES = 64 * 1024
"""How many stored bytes are parsed at once; it bounds the memory that a long answer takes."""

_LONGEST_EVENT_BYTES = 1024 * 1024

_KEPT_EDGES = 256
"""How many edges are kept, which covers stop strings of as many characters; with longer ones an
answer is regenerated from its beginning."""

_COMPLETION_MAX_TOKENS = 16
"""vLLM's default for a completion without a limit."""

_NOT_TEXT_ALONE = (
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "echo",
    "structured_outputs",
    "use_beam_search",
    "return_token_ids",
    "return_prompt_text",
    "truncate_prompt_tokens",
    "continue_final_message",
    "suffix",
)
"""Options whose answers are more than text, or depend on more than the preceding text."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.encode


class NotContinuedError(UpstreamError):
    """The replica is healthy but does not continue the delivered answer."""


def unresumable_reason(path: str, body: dict[str, Any]) -> str:
    """Returns why the requested stream could not be continued elsewhere; empty if it could."""
    if path not in (CHAT, COMPLETIONS):
        return f"streams of {path} cannot be continued"
    for name in ("n", "best_of"):
        if body.get(name) not in (None, 1):
            return f"answers to requests with {name} cannot be continued"
    for name in _NOT_TEXT_ALONE:
        if (value := body.get(name)) is not None and value is not False:
            return f"answers to requests with {name} cannot be continued"
    if (form := body.get("response_format")) is not None and form != {"type": "text"}:
        return "structured output cannot be continued"
    for name in ("max_tokens", "max_completion_tokens", "min_tokens"):
        if type(body.get(name, 0)) not in (int, type(None)):
            return f"{name} is not a number"
    if path == CHAT and not _ends_with_a_question(body.get("messages")):
        return "an answer that the client has begun cannot be continued"
    if path == COMPLETIONS and not _is_one_prompt(body.get("prompt")):
        return "answers to several prompts cannot be continued"
    return ""


def _ends_with_a_question(messages: Any) -> bool:
    if type(messages) is not list or not messages or type(messages[-1]) is not dict:
        return False
    return messages[-1].get("role") != "assistant"


def _is_one_prompt(prompt: Any) -> bool:
    if type(prompt) is list:
        return bool(prompt) and all(type(token) is int for token in prompt)
    return type(prompt) is str


@dataclass(slots=True)
class DeliveredText:
    """The text delivered to a client, as parsed from the events."""

    text: str = ""
    edges: list[int] = field(default_factory=list)
    """Lengths of the text after each of the most recent events."""
    head: dict[str, Any] = field(default_factory=dict)
    """The answer's `id` and `created`; empty before the first event."""
    finish_reason: str | None = None
    tagged: bool = False
    """Whether the model writes its reasoning as text between tags."""
    reasoned: bool = False
    """Whether the client got reasoning apart from the answer; `text` has it between tags."""
    usage: bool = False
    done: bool = False
    unresumable_reason: str = ""
    """Why this answer cannot be continued; empty if it can."""
    _within_reasoning: bool = False

    def read(self, events: bytes) -> None:
        pieces = [self.text]
        length = len(self.text)
        for event in events.split(b"\n\n"):
            if event == DONE.strip():
                self.done = True
            elif event and not self.unresumable_reason:
                piece = self._read(event)
                if piece:
                    pieces.append(piece)
                    length += len(piece)
                    self.edges.append(length)
        self.text = "".join(pieces)
        del self.edges[:-_KEPT_EDGES]

    def _read(self, data: bytes) -> str:
        """Returns the text of an event."""
        try:
            event = _decode(data.removeprefix(b"data: "))
            self.head = {"id": event["id"], "created": event["created"]}
            if not event["choices"]:
                self.usage = True
                return ""
            (choice,) = event["choices"]
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if "delta" not in choice:
                return str(choice["text"])
            delta = choice["delta"]
            known = ("role", "content", *(("reasoning",) if self.tagged else ()))
            if delta.get("tool_calls"):
                self.unresumable_reason = "a tool call that has begun cannot be continued"
            elif any(value for name, value in delta.items() if name not in known):
                self.unresumable_reason = "an answer that is more than text cannot be continued"
            return self._written(delta.get("reasoning"), delta.get("content"))
        except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError):
            self.unresumable_reason = "the stream is not a text stream"
            return ""

    def _written(self, reasoning: str | None, content: str | None) -> str:
        """Returns a piece of the answer as the model wrote it."""
        text = ""
        if reasoning:
            text = reasoning if self._within_reasoning else OPENED + reasoning
            self.reasoned = self._within_reasoning = True
        if content:
            text += CLOSED + content if self._within_reasoning else content
            self._within_reasoning = False
        return text


class Continuation:
    """Merges the events of the continuing replica with those that were delivered."""

    def __init__(self, head: dict[str, Any], repeated: str, sent_tokens: int) -> None:
        """`repeated` is delivered text that this replica generates again; `sent_tokens` are part of
        its prompt but count as output."""
        self._head = head
        self._repeated = repeated
        self._sent_tokens = sent_tokens

    def rewrite(self, events: bytes) -> bytes:
        """Rewrites whole events for the client. Raises NotContinuedError."""
        return b"".join(self._event(event) for event in events.split(b"\n\n") if event)

    def _event(self, data: bytes) -> bytes:
        if not data.startswith(b"data: {"):
            if self._repeated:
                raise NotContinuedError("the continued answer ends before the delivered text")
            return data + b"\n\n"
        event = _decode(data[6:])
        for choice in event["choices"]:
            if self._head and choice.get("delta") == _FIRST_DELTA:
                return b""  # The client already has it.
            if self._repeated and not self._skip(choice):
                return b""
        if usage := event.get("usage"):
            usage["prompt_tokens"] -= self._sent_tokens
            usage["completion_tokens"] += self._sent_tokens
            details = usage.get("prompt_tokens_details")
            if details and details.get("cached_tokens"):
                details["cached_tokens"] = min(details["cached_tokens"], usage["prompt_tokens"])
        return b"data: " + _encode(event | self._head | {"continued": True}) + b"\n\n"

    def _skip(self, choice: dict[str, Any]) -> bool:
        """Removes delivered text from a choice. Returns False if nothing is left."""
        holder, name = choice, "text"
        if "delta" in choice:
            holder = choice["delta"]
            name = "reasoning" if holder.get("reasoning") else "content"
        text = holder.get(name) or ""
        same = min(len(text), len(self._repeated))
        if text[:same] != self._repeated[:same]:
            raise NotContinuedError("the continued answer differs from the delivered text")
        self._repeated = self._repeated[same:]
        holder[name] = text[same:]
        return bool(holder[name]) or choice.get("finish_reason") is not None


class StreamResumption:
    """A streamed answer from its first event on, however many replicas contribute to it."""

    def __init__(
        self, path: str, request: bytes, unresumable_reason: str, rules: ModelRules | None = None
    ) -> None:
        """`request` is the body that the engine is sent; it follows the `rules` as it reads it."""
        self.unresumable_reason = unresumable_reason
        self.error_mark = error_mark(path)
        """The beginning of an engine's error event."""
        self.within_event = False
        """Whether the client has been sent the beginning of an event without its end."""
        self._path = path
        self._request = request
        self._max_tokens: int | None = _COMPLETION_MAX_TOKENS
        if path == CHAT:
            self._max_tokens = None if rules is None else rules.max_tokens
        self._partial = b""
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._sent = DeliveredText(tagged=rules is not None and rules.writes_tags)
        self._fields: dict[str, Any] = {}
        self._cut = 0
        self._continuation: Continuation | None = None

    def feed(self, piece: bytes) -> bytes:
        """Returns what may be sent to the client now that `piece` has arrived. Raises EngineError,
        NotContinuedError."""
        if self.unresumable_reason:
            piece, self._partial = self._partial + piece, b""
            raise_engine_error(piece, self.error_mark)
            self.within_event = not piece.endswith(b"\n\n")
            return piece
        if self._partial or not piece.endswith(b"\n\n"):
            piece = self._whole_events(piece)
        raise_engine_error(piece, self.error_mark)
        if self._continuation is not None:
            piece = self._continuation.rewrite(piece)
        self.passed_on([piece])
        return piece

    @property
    def passes(self) -> bool:
        """Whether the next piece may be relayed unchanged, if it consists of whole events without
        an error; `passed_on` must be called for it later."""
        return self._continuation is None and not self._partial and not self.within_event

    def passed_on(self, pieces: Sequence[bytes]) -> None:
        """Records whole events that were relayed unchanged."""
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
        self._sent.read(b"".join(self._kept))
        self._kept.clear()
        self._kept_bytes = 0
        self.unresumable_reason = self.unresumable_reason or self._sent.unresumable_reason

    def broken(self) -> bytes | None:
        """Called when the stream broke. Returns the bytes missing from an answer that was otherwise
        complete, or None if it has to continue: on another replica, unless there is an
        `unresumable_reason`."""
        self._partial = b""
        self._read_kept()
        if self.unresumable_reason:
            return None
        self._fields = fields = decode(self._request)
        if self._sent.done:
            return b""
        if self._sent.finish_reason is not None:
            if self._sent.usage or not (fields.get("stream_options") or {}).get("include_usage"):
                return DONE
            self.unresumable_reason = "the answer is complete except for its usage"
        self._cut = self._last_edge()
        return None

    def _last_edge(self) -> int:
        """Returns where the text can be cut: vLLM holds back one character less than the longest
        stop string, and the tokenizer strips the spaces at the end of an assistant's message."""
        text, fields = self._sent.text, self._fields
        stop = fields.get("stop") or []
        longest = max(map(len, [stop] if type(stop) is str else stop), default=0)
        cut = len(text)
        if longest > 1 and not fields.get("include_stop_str_in_output"):
            edges = (edge + longest - 1 for edge in self._sent.edges)
            cut = max((edge for edge in edges if edge <= cut), default=0)
        return len(text[:cut].rstrip(" ")) if self._path == CHAT else cut

    def questions(self) -> list[bytes]:
        """Returns bodies for the engine's /tokenize, whose tokens `continuation_request` needs."""
        if not self._cut:
            return []
        fields = self._fields
        texts = [(self._sent.text[: self._cut], False)]
        if type(prompt := fields.get("prompt")) is str:
            texts.append((prompt, fields.get("add_special_tokens", True)))
        return [
            encode({"model": fields.get("model"), "prompt": text, "add_special_tokens": special})
            for text, special in texts
        ]

    def continuation_request(self, tokens: list[list[int]]) -> bytes:
        """Builds the request for the continuing replica. `tokens` answer the `questions`."""
        text = self._sent.text
        sent_tokens = len(tokens[0]) if tokens else 0
        repeated = text[self._cut :]
        if self._sent.reasoned:
            repeated = repeated.replace(OPENED, "").replace(CLOSED, "")
        self._continuation = Continuation(self._sent.head, repeated, sent_tokens)
        if not self._cut:
            return self._request
        fields = dict(self._fields)
        if self._path == CHAT:
            so_far = {"role": "assistant", "content": text[: self._cut]}
            fields["messages"] = [*fields["messages"], so_far]
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        else:
            prompt = tokens[1] if len(tokens) > 1 else fields["prompt"]
            fields["prompt"] = prompt + tokens[0]
        if fields.get("max_tokens") is None and fields.get("max_completion_tokens") is None:
            fields["max_tokens"] = self._max_tokens
        for name, least in (("max_tokens", 1), ("max_completion_tokens", 1), ("min_tokens", 0)):
            if fields.get(name):
                fields[name] = max(least, fields[name] - sent_tokens)
        return encode(fields)

"""Writes an answer in the form of Anthropic's Messages API."""

import pydantic_core

from serving.answers.events import (
    Answer,
    Arguments,
    CallBegun,
    CallEnded,
    End,
    Event,
    PromptTokens,
    Reasoning,
    Step,
    Text,
    ToolCall,
    Usage,
)
from serving.encoders.sse import event, to_json
from serving.mistral.anthropic_error import anthropic_error
from serving.requests.request import JsonObject

ID_PREFIX = "msg_"
"""What a message's id has before the id of its request."""

_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}
_TAIL = b"}}\n\n"


class MessagesEncoder:
    """Writes one choice: a block for each text, each call and each stretch of reasoning. An answer
    of none of these has no content."""

    told_by = (Text, Reasoning, Arguments)

    def __init__(self, options: None, id: str, created: int, model: str, usage: Usage) -> None:
        """`id` is the message's, `msg_…`; `created` is not part of the answer."""
        self._id = id
        self._model = model
        self._usage = usage
        self._blocks = 0
        self._open: str | None = None
        self._head = b""
        self._call_complete = False
        self._end: End | None = None

    def prompt(self, prompt: PromptTokens) -> None:
        pass

    def begin(self) -> bytes:
        """Returns the first event. It tells the prompt's length, which `usage` must have."""
        message = self._message([], None, None) | {"usage": self._usage_now(0)}
        return event({"type": "message_start", "message": message}, "message_start")

    def step(self, index: int, step: Step) -> bytes:
        if step.end is not None:
            self._end = step.end
        if len(step.events) == 1:
            return self._event(step.events[0])
        return b"".join(map(self._event, step.events))

    def _event(self, one: Event) -> bytes:
        match one:
            case Text(text):
                return self._delta("text", text)
            case Reasoning(text):
                return self._delta("thinking", text)
            case Arguments(text):
                return self._delta("tool_use", text)
            case CallBegun(id, name):
                self._call_complete = False
                return self._open_block("tool_use", _call_block(id, name, {}))
            case CallEnded():
                self._call_complete = True
                return self._close()

    def _delta(self, kind: str, text: str) -> bytes:
        if not text:
            return b""
        opened = b""
        if self._open != kind:
            block = _text_block("") if kind == "text" else _thinking_block("", "")
            opened = self._open_block(kind, block)
        return opened + self._head + to_json(text) + _TAIL

    def _open_block(self, kind: str, block: JsonObject) -> bytes:
        closed = self._close()
        delta, field = _DELTAS[kind]
        self._open = kind
        self._head = (
            "event: content_block_delta\n"
            f'data: {{"type":"content_block_delta","index":{self._blocks},'
            f'"delta":{{"type":"{delta}","{field}":'
        ).encode()
        return closed + event(
            {"type": "content_block_start", "index": self._blocks, "content_block": block},
            "content_block_start",
        )

    def _close(self) -> bytes:
        """Returns the events that end the open block, if there is one."""
        if self._open is None:
            return b""
        signed = b""
        if self._open == "thinking":
            delta = {"type": "signature_delta", "signature": self._id}
            signed = event(
                {"type": "content_block_delta", "index": self._blocks, "delta": delta},
                "content_block_delta",
            )
        stop = event({"type": "content_block_stop", "index": self._blocks}, "content_block_stop")
        self._open = None
        self._blocks += 1
        return signed + stop

    def finish(self) -> bytes:
        closed = self._close()
        reason, sequence = _stop(self._end, self._call_complete)
        last = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": self._usage_now(self._usage.completion_tokens),
        }
        return (
            closed + event(last, "message_delta") + event({"type": "message_stop"}, "message_stop")
        )

    def error(self, message: str, status: int) -> bytes:
        request_id = self._id.removeprefix(ID_PREFIX)
        return event(anthropic_error(message, status) | {"request_id": request_id}, "error")

    def whole(self, answers: list[Answer]) -> bytes:
        (answer,) = answers
        content: list[JsonObject] = []
        for part in answer.parts:
            match part:
                case str():
                    content.append(_text_block(part))
                case Reasoning(text):
                    content.append(_thinking_block(text, self._id))
                case ToolCall():
                    content.append(_call_block(part.id, part.name, _input(part.arguments)))
        calls = answer.calls
        complete = bool(calls) and calls[-1].complete
        reason, sequence = _stop(answer.end, complete)
        message = self._message(content, reason, sequence)
        return to_json(message | {"usage": self._usage_now(self._usage.completion_tokens)})

    def _message(
        self, content: list[JsonObject], reason: str | None, sequence: str | None
    ) -> JsonObject:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self._model,
            "stop_reason": reason,
            "stop_sequence": sequence,
        }

    def _usage_now(self, output_tokens: int) -> JsonObject:
        cached = self._usage.cached_tokens
        return {
            "input_tokens": self._usage.prompt_tokens - cached,
            "cache_read_input_tokens": cached,
            "output_tokens": output_tokens,
        }


def _stop(end: End | None, call_complete: bool) -> tuple[str, str | None]:
    """Returns the reason for the end and the stop sequence. A stop sequence after complete calls
    does not keep them from being run, but one inside a call does."""
    if end is None:
        return "end_turn", None
    if end.reason == "length":
        return "max_tokens", None
    if call_complete:
        return "tool_use", None
    if isinstance(end.stop, str):
        return "stop_sequence", end.stop
    return ("tool_use" if end.reason == "tool_calls" else "end_turn"), None


def _text_block(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def _thinking_block(thinking: str, signature: str) -> JsonObject:
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def _call_block(id: str, name: str, input: JsonObject) -> JsonObject:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def _input(arguments: str) -> JsonObject:
    """Returns the arguments of a call; those that are complete, if it was cut off."""
    try:
        value = pydantic_core.from_json(arguments, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

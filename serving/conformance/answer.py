"""Chat answers, parsed strictly, whole or joined from the events of a stream."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .expect import CheckFailed, expect

FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(frozen=True)
class Call:
    """A tool call. `arguments` is JSON text, as in OpenAI's API."""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any]:
        """The arguments as an object. Fails the check if they are not one."""
        value = parsed(self.arguments, f"the arguments of {self.name}")
        expect(isinstance(value, dict), f"arguments are no JSON object: {self.arguments!r}")
        return dict(value)


@dataclass(frozen=True)
class Answer:
    """The first choice of a chat completion. Text that is absent is ""."""

    content: str
    reasoning: str
    calls: tuple[Call, ...]
    finish_reason: str
    stop_reason: Any = None
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    message: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def only_call(self) -> Call:
        expect(len(self.calls) == 1, f"{len(self.calls)} tool calls instead of one: {self.shown}")
        return self.calls[0]

    @property
    def shown(self) -> str:
        """A description of the answer in one line, for reports."""
        calls = ", ".join(f"{call.name}({call.arguments})" for call in self.calls)
        text = self.content if len(self.content) <= 120 else self.content[:120] + "…"
        return f"content {text!r}, calls [{calls}], finish_reason {self.finish_reason}"


def parsed(text: str, what: str) -> Any:
    """The value of JSON text. Fails the check if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        raise CheckFailed(f"{what} is not JSON: {text[:200]!r}") from None


def text_of(value: Any, where: str) -> str:
    expect(value is None or isinstance(value, str), f"{where} is not text: {value!r}")
    text: str = value or ""
    expect("\ufffd" not in text, f"{where} has broken characters: {text[:200]!r}")
    return text


def read(completion: Any, headers: Mapping[str, str]) -> Answer:
    """Parses an unstreamed chat completion. Fails the check unless it has the shape that OpenAI's
    clients rely on."""
    expect(completion.get("object") == "chat.completion", f"object {completion.get('object')!r}")
    expect(completion.get("id") and isinstance(completion.get("created"), int), "no id or created")
    (choice,) = completion["choices"]
    message = choice["message"]
    expect(message.get("role") == "assistant", f"role {message.get('role')!r}")
    calls = tuple(_call(call) for call in message.get("tool_calls") or ())
    usage = completion["usage"]
    check_usage(usage)
    return Answer(
        text_of(message.get("content"), "content"),
        text_of(message.get("reasoning"), "reasoning"),
        calls,
        _finish_reason(choice.get("finish_reason")),
        choice.get("stop_reason"),
        usage["completion_tokens"],
        usage["prompt_tokens"],
        message,
        headers,
    )


def _call(call: Any) -> Call:
    expect(call.get("type") == "function", f"a call of type {call.get('type')!r}")
    function = call["function"]
    arguments = function.get("arguments")
    expect(isinstance(arguments, str), f"arguments are no text but {arguments!r}")
    expect(call.get("id") and function.get("name"), f"a call without id or name: {call}")
    return Call(call["id"], function["name"], arguments)


def _finish_reason(value: Any) -> str:
    expect(value in FINISH_REASONS, f"finish_reason {value!r} is none of OpenAI's")
    return str(value)


def check_usage(usage: Any) -> None:
    """Fails unless the token counts are present and add up."""
    counts = [usage.get(name) for name in _USAGE]
    expect(all(isinstance(n, int) for n in counts), f"token counts are missing: {usage}")
    expect(counts[0] + counts[1] == counts[2], f"token counts do not add up: {usage}")


def join(events: Iterable[Any], headers: Mapping[str, str]) -> Answer:
    """Joins a stream's events to a chat completion. Fails the check on an event that OpenAI's
    clients could not parse."""
    joined = _Joined()
    for event in events:
        joined.add(event)
    return joined.answer(headers)


class _Joined:
    def __init__(self) -> None:
        self.id: str | None = None
        self.content = self.reasoning = ""
        self.calls: list[dict[str, str]] = []
        self.role: str | None = None
        self.finish_reason: str | None = None
        self.stop_reason: Any = None
        self.usage: Any = None

    def add(self, event: Any) -> None:
        if "error" in event:
            raise CheckFailed(f"the stream reports an error: {event['error']}")
        expect(event.get("object") == "chat.completion.chunk", f"object {event.get('object')!r}")
        expect(event.get("id"), "an event without id")
        expect(self.id in (None, event["id"]), "the id changes within a stream")
        self.id = event["id"]
        if event.get("usage"):
            self.usage = event["usage"]
        for choice in event["choices"]:
            expect(self.finish_reason is None, "the stream goes on after its finish_reason")
            self._delta(choice["delta"])
            if choice.get("finish_reason") is not None:
                self.finish_reason = _finish_reason(choice["finish_reason"])
                self.stop_reason = choice.get("stop_reason")

    def _delta(self, delta: Any) -> None:
        self.role = self.role or delta.get("role")
        expect(self.role == "assistant", f"the first delta has the role {self.role!r}")
        self.content += text_of(delta.get("content"), "delta.content")
        self.reasoning += text_of(delta.get("reasoning"), "delta.reasoning")
        for part in delta.get("tool_calls") or ():
            self._call(part)

    def _call(self, part: Any) -> None:
        index, function = part.get("index"), part.get("function") or {}
        if index == len(self.calls):
            expect(
                part.get("id") and function.get("name"),
                f"a call's first delta lacks id or name: {part}",
            )
            self.calls.append({"id": part["id"], "name": function["name"], "arguments": ""})
        expect(index == len(self.calls) - 1, f"a call's delta has the index {index!r}")
        call = self.calls[index]
        expect(part.get("id") in (None, "", call["id"]), "a call's id changes within a stream")
        call["arguments"] += function.get("arguments") or ""

    def answer(self, headers: Mapping[str, str]) -> Answer:
        expect(self.finish_reason is not None, "the stream ends without a finish_reason")
        if self.usage is not None:
            check_usage(self.usage)
        usage = self.usage or {}
        return Answer(
            self.content,
            self.reasoning,
            tuple(Call(**call) for call in self.calls),
            str(self.finish_reason),
            self.stop_reason,
            usage.get("completion_tokens"),
            usage.get("prompt_tokens"),
            headers=headers,
        )

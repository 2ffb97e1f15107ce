"""Streams of the Responses API for tests, and their validation by OpenAI's types."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from serving.answers.events import (
    Answer,
    Arguments,
    CallBegun,
    CallEnded,
    End,
    Event,
    Step,
    TokenLogprob,
    Usage,
)
from serving.encoders.responses import ResponsesEncoder
from serving.requests.responses import ResponseOptions, read
from tests.support.reading import READING

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_BEYOND_THE_SDK = {"presence_penalty", "frequency_penalty", "bytes", "error"}
TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
    {"type": "custom", "name": "c", "format": {"type": "text"}},
    {
        "type": "namespace",
        "name": "ns",
        "description": "",
        "tools": [
            {"type": "function", "name": "f", "strict": False},
            {"type": "custom", "name": "c", "format": {"type": "text"}},
        ],
    },
]


def options(**fields: Any) -> ResponseOptions:
    body = {"model": "m", "input": "Hello", "tools": TOOLS, **fields}
    return read(json.dumps(body).encode(), *READING)[1]


OPTIONS = options(metadata={"a": "b"}, instructions="Be brief.", user="u", max_output_tokens=9)


def encoder(given: ResponseOptions = OPTIONS) -> ResponsesEncoder:
    usage = Usage(prompt_tokens=5, cached_tokens=2, completion_tokens=7, reasoning_tokens=3)
    return ResponsesEncoder(given, "resp_0123456789abcdef", 1_700_000_000, "m", usage)


def parsed(stream: bytes) -> list[dict[str, Any]]:
    """Parses and checks the events of a stream."""
    events = []
    for event in stream.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        typed = _EVENT.validate_json(data.removeprefix("data: "), strict=True)
        assert name == f"event: {typed.type}"
        assert unknown(typed) <= _BEYOND_THE_SDK
        events.append(json.loads(data.removeprefix("data: ")))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def unknown(value: Any) -> set[str]:
    """Returns the fields that the SDK's types do not have, but for the status of custom calls, and
    the name of a function with its arguments, which others of OpenAI's SDKs have."""
    if isinstance(value, list):
        return set().union(*map(unknown, value))
    if not isinstance(value, BaseModel):
        return set()
    extra = set(value.model_extra or {})
    if getattr(value, "type", None) == "custom_tool_call":
        extra.discard("status")
    if getattr(value, "type", None) == "response.function_call_arguments.done":
        extra.discard("name")
    fields = (getattr(value, name) for name in type(value).model_fields)
    return extra.union(*map(unknown, fields))


def streamed(steps: Sequence[Step], given: ResponseOptions = OPTIONS) -> list[dict[str, Any]]:
    writer = encoder(given)
    pieces = [writer.begin(), *[writer.step(0, step) for step in steps], writer.finish()]
    return parsed(b"".join(pieces))


def whole(steps: Sequence[Step], given: ResponseOptions = OPTIONS) -> dict[str, Any]:
    answer = Answer()
    for step in steps:
        answer.add(step)
    body = encoder(given).whole([answer])
    assert unknown(Response.model_validate_json(body, strict=True)) <= _BEYOND_THE_SDK
    response: dict[str, Any] = json.loads(body)
    return response


def steps(*events: Event, end: str = "stop") -> list[Step]:
    reason: Any = end
    return [*(Step([event]) for event in events), Step([], end=End(reason))]


def names(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def call(name: str, *pieces: str, ended: bool = True, id: str = "abcdefghi") -> list[Event]:
    events: list[Event] = [CallBegun(id, name), *map(Arguments, pieces)]
    return [*events, CallEnded()] if ended else events


def token(text: bytes, *top: TokenLogprob) -> TokenLogprob:
    return TokenLogprob(1, text, -0.5, top)


def rebuilt(events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the items as a client puts them together from the deltas; checks them on the way."""
    item: dict[str, Any] = {}
    logprobs: list[Any] = []
    text, index = "", -1
    for event in events[2:-1]:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            item, text, logprobs, index = event["item"], "", [], index + 1
        assert event["output_index"] == index
        assert event.get("item_id", item["id"]) == item["id"]
        if kind.endswith(".delta"):
            text += event["delta"]
            logprobs += event.get("logprobs", [])
        elif kind in ("output_text.done", "reasoning_text.done"):
            assert (event["text"], event.get("logprobs", [])) == (text, logprobs)
        elif kind.endswith("arguments.done"):
            item["arguments"] = event["arguments"]
            assert event["arguments"] == text
        elif kind.endswith("input.done"):
            item["input"] = event["input"]
            assert event["input"] == text
        elif kind == "content_part.done":
            item["content"] = [event["part"]]
            assert event["part"]["text"] == text
        elif kind == "output_item.done":
            item["status"] = event["item"]["status"]
            assert event["item"] == item
            yield item

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from serving.answers.events import (
    Answer,
    Arguments,
    CallBegun,
    CallEnded,
    End,
    Event,
    Reasoning,
    Step,
    Text,
    Usage,
)
from serving.encoders.messages import MessagesEncoder

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def encoder(usage: Usage) -> MessagesEncoder:
    return MessagesEncoder(None, "msg_1", 0, "m", usage)


def events_of(stream: bytes) -> list[dict[str, Any]]:
    found = []
    for block in stream.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        EVENTS.validate_python(found[-1], strict=True)
    return found


def stream_of(steps: list[Step]) -> list[dict[str, Any]]:
    usage = Usage(prompt_tokens=9, cached_tokens=4)
    writer = encoder(usage)
    stream = writer.begin()
    usage.completion_tokens = 3
    for step in steps:
        stream += writer.step(0, step)
    return events_of(stream + writer.finish())


def whole_of(steps: list[Step]) -> dict[str, Any]:
    answer = Answer()
    for step in steps:
        answer.add(step)
    usage = Usage(prompt_tokens=9, cached_tokens=4, completion_tokens=3)
    body: dict[str, Any] = json.loads(encoder(usage).whole([answer]))
    Message.model_validate(body, strict=True)
    return body


def joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the message that the SDK puts together from a stream."""
    message = None
    arguments: dict[int, bytes] = {}
    for one in events:
        message = accumulate_event(
            event=EVENTS.validate_python(one, strict=True),
            current_snapshot=message,
            json_bufs=arguments,
        )
    assert message is not None
    return dict(message.model_dump(mode="json", exclude_unset=True, exclude={"parsed_output"}))


def plain(message: dict[str, Any]) -> Any:
    content = [
        {name: value for name, value in block.items() if not name.startswith(("_", "parsed"))}
        for block in message["content"]
    ]
    names = ("id", "role", "model", "stop_reason", "stop_sequence")
    return content, [message[name] for name in names], message["usage"]["output_tokens"]


CALL: list[Event] = [CallBegun("abcdefghi", "f"), Arguments('{"a": '), Arguments("1}")]


def test_a_text() -> None:
    steps = [Step([Text("Hel")]), Step([]), Step([Text("lo \n\u2028")], end=End("stop"))]
    assert stream_of(steps) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "content": [],
                "model": "m",
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 0},
            },
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        delta(0, type="text_delta", text="Hel"),
        delta(0, type="text_delta", text="lo \n\u2028"),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 3},
        },
        {"type": "message_stop"},
    ]


def delta(index: int, **fields: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def test_thinking_text_and_calls_are_blocks() -> None:
    events: list[Event] = [Reasoning("hm"), Text("Hi"), *CALL, CallEnded(), *CALL, CallEnded()]
    body = whole_of([Step(events, end=End("tool_calls"))])
    call = {"type": "tool_use", "id": "abcdefghi", "name": "f", "input": {"a": 1}}
    assert body["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "msg_1"},
        {"type": "text", "text": "Hi"},
        call,
        call,
    ]
    assert body["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("arguments", "complete"),
    [("", {}), ('{"a": "x', {}), ('{"a": "x", "b": "y', {"a": "x"}), ('{"a": [1, {"b"', None)],
)
def test_a_call_that_is_cut_off_has_its_complete_arguments(arguments: str, complete: Any) -> None:
    steps = [Step([CallBegun("abcdefghi", "f"), Arguments(arguments)], end=End("length"))]
    body = whole_of(steps)
    assert body["stop_reason"] == "max_tokens"
    assert body["content"][0]["input"] == ({"a": [1, {}]} if complete is None else complete)
    assert stream_of(steps)[-3] == {"type": "content_block_stop", "index": 0}


@pytest.mark.parametrize(
    ("events", "end", "reason", "sequence"),
    [
        ([Text("a")], End("stop"), "end_turn", None),
        ([Text("a")], End("stop", "x"), "stop_sequence", "x"),
        ([Text("a")], End("stop", 7), "end_turn", None),
        ([Text("a")], End("length"), "max_tokens", None),
        ([Text("a")], End("length", "repetition_detected"), "max_tokens", None),
        ([*CALL, CallEnded()], End("tool_calls"), "tool_use", None),
        ([*CALL, CallEnded()], End("tool_calls", "x"), "tool_use", None),
        (CALL, End("stop", "x"), "stop_sequence", "x"),
        ([*CALL, CallEnded(), *CALL], End("tool_calls", "x"), "stop_sequence", "x"),
        ([*CALL, CallEnded()], End("length"), "max_tokens", None),
    ],
)
def test_reasons_to_stop(events: list[Event], end: End, reason: str, sequence: str | None) -> None:
    steps = [Step(events, end=end)]
    expected = {"stop_reason": reason, "stop_sequence": sequence}
    body = whole_of(steps)
    assert {name: body[name] for name in expected} == expected
    assert stream_of(steps)[-2]["delta"] == expected


def test_an_empty_answer_has_no_content() -> None:
    steps = [Step([Text("")], end=End("stop"))]
    assert whole_of(steps)["content"] == []
    assert [one["type"] for one in stream_of(steps)] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors(status: int, kind: str) -> None:
    name, data = encoder(Usage()).error("No.", status).decode().strip().split("\n")
    assert name == "event: error"
    error = {"type": "error", "error": {"type": kind, "message": "No."}, "request_id": "1"}
    assert json.loads(data.removeprefix("data: ")) == error

"""Streams of the other APIs join to what their unstreamed answers show, and broken ones fail."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from serving.conformance.events import DONE, Event
from serving.conformance.expect import CheckFailed
from serving.conformance.joins import (
    joined_completion,
    joined_message,
    joined_response,
    seen_completion,
    seen_message,
    seen_response,
)

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
COUNTS = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


def named(*events: dict[str, Any]) -> list[Event]:
    return [Event(event["type"], json.dumps(event)) for event in events]


def text_chunk(text: str, finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "text": text, "finish_reason": finish_reason}
    return {"object": "text_completion", "choices": [choice]}


def completion_stream(*chunks: dict[str, Any]) -> list[Event]:
    last = {"object": "text_completion", "choices": [], "usage": USAGE}
    return [*(Event("", json.dumps(chunk)) for chunk in (*chunks, last)), Event("", DONE)]


COMPLETION = completion_stream(text_chunk("a"), text_chunk("b", "stop"))


def numbered(*events: dict[str, Any]) -> list[Event]:
    return named(*({**event, "sequence_number": i} for i, event in enumerate(events)))


CALL = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESPONSE = {"status": "completed", "output": [CALL], "usage": COUNTS}
ARGUMENTS = {"type": "response.function_call_arguments.delta", "output_index": 0}
RESPONSE_EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "response.created"},
    {"type": "response.output_item.added", "output_index": 0},
    {**ARGUMENTS, "delta": "{"},
    {**ARGUMENTS, "delta": "}"},
    {"type": "response.completed", "response": RESPONSE},
)


def delta(index: int, **fields: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
MESSAGE_EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 0}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    delta(0, text="a"),
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": USE},
    delta(1, partial_json='{"a": 1}'),
    {"type": "content_block_stop", "index": 1},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
)


def test_a_completions_stream_joins_to_the_whole() -> None:
    whole = {"choices": text_chunk("ab", "stop")["choices"], "usage": USAGE}
    assert joined_completion(COMPLETION) == seen_completion(whole)


def test_a_responses_stream_joins_to_the_whole() -> None:
    assert joined_response(numbered(*RESPONSE_EVENTS)) == seen_response(RESPONSE)


def test_a_messages_stream_joins_to_the_whole() -> None:
    whole = {
        "content": [{"type": "text", "text": "a"}, {**USE, "input": {"a": 1}}],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    assert joined_message(named(*MESSAGE_EVENTS)) == seen_message(whole)


@pytest.mark.parametrize(
    ("join", "stream", "reason"),
    [
        (joined_completion, COMPLETION[:-1], "does not end"),
        (joined_completion, [*COMPLETION[:-2], COMPLETION[-1]], "token counts"),
        (
            joined_completion,
            completion_stream(text_chunk("a", "stop"), text_chunk("b")),
            "after its finish_reason",
        ),
        (joined_response, named(*RESPONSE_EVENTS), "sequence numbers"),
        (joined_response, numbered(*RESPONSE_EVENTS[1:]), "first"),
        (joined_response, numbered(*RESPONSE_EVENTS[:-1]), "last"),
        (joined_response, numbered(*RESPONSE_EVENTS[:3], RESPONSE_EVENTS[-1]), "deltas '{'"),
        (
            joined_response,
            numbered(RESPONSE_EVENTS[0], *RESPONSE_EVENTS[2:]),
            "that was not added",
        ),
        (joined_message, named(*MESSAGE_EVENTS[:-1]), "last"),
        (joined_message, named(*MESSAGE_EVENTS[:3], *MESSAGE_EVENTS[4:]), "a block's start"),
        (joined_message, named(MESSAGE_EVENTS[0], MESSAGE_EVENTS[2]), "a delta of no block"),
    ],
)
def test_a_broken_stream_fails(join: Any, stream: Sequence[Event], reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason):
        join(stream)

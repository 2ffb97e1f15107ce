"""Answers are read strictly, and a stream amounts to the whole."""

from typing import Any

import pytest

from serving.conformance.answer import Answer, join, read
from serving.conformance.expect import CheckFailed
from tests.conformance.stand_in import call, chunk, chunks, completion

WHOLES = [
    completion("Hello! こんにちは 👋"),
    completion("cut", finish_reason="length", stop_reason="repetition_detected"),
    completion("30 minutes.", reasoning="They dry in parallel."),
    completion(
        calls=[call("f", {"x": "½"}), call("g", {}, "z9Y8x7W6v")], finish_reason="tool_calls"
    ),
]


def seen(answer: Answer) -> list[Any]:
    return [
        answer.content,
        answer.reasoning,
        answer.calls,
        answer.finish_reason,
        answer.stop_reason,
        answer.completion_tokens,
    ]


@pytest.mark.parametrize("whole", WHOLES)
def test_a_stream_joined_is_the_whole(whole: dict[str, Any]) -> None:
    assert seen(join(chunks(whole), {})) == seen(read(whole, {}))


def test_a_calls_arguments_are_an_object() -> None:
    answer = read(completion(calls=[call("f", {"x": 1})], finish_reason="tool_calls"), {})
    assert answer.only_call.parsed() == {"x": 1}
    for arguments in ("[1]", "{", ""):
        broken = read(completion(calls=[call("f", arguments)]), {})
        with pytest.raises(CheckFailed):
            broken.only_call.parsed()


def test_one_call_is_not_two() -> None:
    with pytest.raises(CheckFailed, match="0 tool calls instead of one"):
        _ = read(completion("text"), {}).only_call


def broken(whole: dict[str, Any], **choice: Any) -> dict[str, Any]:
    whole["choices"][0] |= choice
    return whole


@pytest.mark.parametrize(
    ("whole", "reason"),
    [
        (completion("x", finish_reason="repetition"), "none of OpenAI's"),
        (completion("x", role="user"), "role"),
        (completion("caf\ufffd"), "broken characters"),
        ({**completion("x"), "object": "text_completion"}, "object"),
        ({**completion("x"), "id": None}, "no id"),
        (
            {
                **completion("x"),
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 3},
            },
            "add up",
        ),
        ({**completion("x"), "usage": {}}, "missing"),
        (completion(["x"]), "not text"),  # type: ignore[arg-type]
        (completion(calls=[{**call("f", {}), "id": ""}]), "without id"),
        (completion(calls=[{**call("f", {}), "type": "tool"}]), "of type"),
        (
            completion(calls=[{**call("f", {}), "function": {"name": "f", "arguments": {}}}]),
            "no text",
        ),
    ],
)
def test_a_whole_of_another_shape_fails(whole: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason):
        read(whole, {})


FIRST = chunk(role="assistant", content="")
END = chunk(finish_reason="stop")


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([FIRST, chunk(content="x")], "without a finish_reason"),
        ([chunk(content="x"), END], "role"),
        ([FIRST, END, chunk(content="more")], "goes on"),
        ([FIRST, {**chunk(content="x"), "id": "other"}, END], "id changes"),
        ([FIRST, {"error": {"message": "dead"}}], "reports an error"),
        ([FIRST, chunk(content="caf\ufffd"), END], "broken characters"),
        ([FIRST, chunk(finish_reason="repetition")], "none of OpenAI's"),
        ([FIRST, chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])], "lacks id"),
        ([FIRST, chunk(tool_calls=[{**call("f", {}), "index": 1}])], "index 1"),
        ([FIRST, chunk(tool_calls=[call("f", {})])], "index None"),
        (
            [
                FIRST,
                chunk(tool_calls=[{**call("f", ""), "index": 0}]),
                chunk(tool_calls=[{"index": 0, "id": "other", "function": {"arguments": "{}"}}]),
            ],
            "id changes",
        ),
    ],
)
def test_a_stream_of_another_shape_fails(events: list[Any], reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason):
        join(events, {})

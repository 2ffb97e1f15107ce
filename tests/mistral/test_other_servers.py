"""Requests to Ollama, llama.cpp and LM Studio, and what their answers lack of OpenAI's API."""

import datetime
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from serving.mistral import ModelRules, normalise
from serving.mistral.answer import Answer, AnswerRules
from tests.mistral.test_answer import delta, event, joined

TODAY = datetime.date(2026, 3, 1)
ELSEWHERE = ModelRules("m", "v7", 1000, image_limit=0, other_server=True)
OURS = ModelRules("m", "v7", 1000, image_limit=0)
F, G = ({"type": "function", "function": {"name": name, "parameters": {}}} for name in "fg")
NAMED = {"type": "function", "function": {"name": "g"}}

CALLS = AnswerRules(incomplete_calls=True)
JOINED = AnswerRules(split_reasoning=True)
SEPARATE = AnswerRules(split_reasoning=True, separate_reasoning=True)
NINE = re.compile(r"[0-9A-Za-z]{9}")


def sent(rules: ModelRules, **fields: Any) -> dict[str, Any]:
    normalise("/v1/chat/completions", fields, rules, TODAY)
    return fields


def test_the_limit_on_the_answer_has_the_name_that_all_of_them_know() -> None:
    assert sent(ELSEWHERE, max_completion_tokens=5) == {"max_tokens": 5}
    assert sent(ELSEWHERE, max_completion_tokens=5, max_tokens=9) == {"max_tokens": 5}
    assert sent(OURS, max_completion_tokens=5) == {"max_completion_tokens": 5}


def test_a_top_p_of_zero_is_one_that_all_of_them_take() -> None:
    assert 0 < sent(ELSEWHERE, top_p=0, temperature=0.5)["top_p"] < 1e-5
    assert sent(ELSEWHERE, top_p=0.5) == sent(OURS, top_p=0.5) == {"top_p": 0.5}
    assert sent(OURS, top_p=0) == {"top_p": 0}


def test_a_content_of_texts_is_one_text_and_any_other_stays() -> None:
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    for content, becomes in ((texts, "a\n\nb"), ("a", "a"), ([*texts, picture],) * 2):
        seeing = ModelRules("m", "v7", 1000, image_limit=1, other_server=True)
        body = sent(seeing, messages=[{"role": "user", "content": content}])
        assert body["messages"][0]["content"] == becomes
    assert sent(OURS, messages=[{"role": "user", "content": texts}])["messages"][0] == {
        "role": "user",
        "content": texts,
    }


def test_turns_of_the_user_that_follow_each_other_are_one() -> None:
    def user(text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    answer = {"role": "assistant", "content": "c"}
    turns = [user("a"), user("b"), answer, user("d")]
    assert sent(ELSEWHERE, messages=list(turns))["messages"] == [user("a\n\nb"), answer, user("d")]
    assert sent(OURS, messages=list(turns))["messages"] == turns


def test_a_tool_that_is_named_is_required_and_alone() -> None:
    body = sent(ELSEWHERE, tools=[F, G], tool_choice=NAMED)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == "required"
    assert sent(OURS, tools=[F, G], tool_choice=NAMED)["tool_choice"] == NAMED
    unknown = {"type": "function", "function": {"name": "h"}}
    assert sent(ELSEWHERE, tools=[F], tool_choice=unknown)["tool_choice"] == unknown


@pytest.mark.parametrize(
    ("rules", "fields", "converted"),
    [
        (ELSEWHERE, {"tools": [F]}, True),
        (ELSEWHERE, {}, False),
        (OURS, {"tools": [F]}, False),
    ],
)
def test_answers_are_parsed_only_where_another_server_may_call(
    rules: ModelRules, fields: dict[str, Any], converted: bool
) -> None:
    done = normalise("/v1/chat/completions", fields, rules, TODAY)
    assert bool(done.answer) is converted


def whole(rules: AnswerRules, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    body = json.dumps({"id": "chatcmpl-7", "created": 5, "choices": [choice]}).encode()
    (answered,) = json.loads(Answer(rules).whole(body, 200))["choices"]
    return dict(answered)


def streamed(rules: AnswerRules, *deltas: dict[str, Any]) -> bytes:
    answer = Answer(rules)
    events = [event(each, id="chatcmpl-7", created=5) for each in deltas]
    return b"".join([answer.feed(b"".join([*events, b"data: [DONE]\n\n"])), answer.end()])


def calls_in(stream: bytes) -> dict[int, dict[str, str]]:
    """The calls of a stream, put together by their index as clients do."""
    calls: dict[int, dict[str, str]] = {}
    for line in stream.decode().split("\n\n"):
        if line.startswith("data: {"):
            for piece in json.loads(line[6:])["choices"][0]["delta"].get("tool_calls", ()):
                call = calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                call["id"] += piece.get("id", "")
                for part in ("name", "arguments"):
                    call[part] += piece["function"].get(part, "")
    return calls


def test_a_call_without_id_type_and_finish_reason_gets_them() -> None:
    calls = [{"function": {"name": "f", "arguments": {"a": "é"}}} for _ in range(2)]
    answered = whole(CALLS, role="assistant", content="", tool_calls=calls)
    assert answered["finish_reason"] == "tool_calls"
    first, second = answered["message"]["tool_calls"]
    assert NINE.fullmatch(first["id"]) and NINE.fullmatch(second["id"])
    assert first["id"] != second["id"] and first["type"] == "function"
    assert first["function"]["arguments"] == '{"a":"é"}'


def test_a_call_that_lacks_nothing_stays() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert whole(CALLS, "tool_calls", **message)["message"] == message


def test_streamed_calls_that_share_an_index_are_told_apart() -> None:
    """Ollama's calls come whole, and some of its versions number each of them 0."""
    stream = streamed(
        CALLS,
        *(
            delta(
                tool_calls=[
                    {"index": 0, "id": tool_id, "function": {"name": "f", "arguments": "{}"}}
                ]
            )
            for tool_id in ("call_a", "call_b")
        ),
        delta("stop"),
    )
    assert calls_in(stream) == {
        0: {"id": "call_a", "name": "f", "arguments": "{}"},
        1: {"id": "call_b", "name": "f", "arguments": "{}"},
    }
    assert joined(stream)[2] == "tool_calls"


def test_streamed_calls_in_pieces_and_without_ids_stay_together() -> None:
    begin = [{"index": 0, "function": {"name": "f", "arguments": ""}}]
    more = [{"index": 0, "function": {"arguments": "{}"}}]
    unnumbered = [{"function": {"name": "g", "arguments": "{"}}]
    end = [{"function": {"arguments": "}"}}]
    stream = streamed(
        CALLS,
        *(delta(tool_calls=piece) for piece in (begin, more, unnumbered, end)),
        delta("tool_calls"),
    )
    calls = calls_in(stream)
    assert [(call["name"], call["arguments"]) for call in calls.values()] == [
        ("f", "{}"),
        ("g", "{}"),
    ]
    assert all(NINE.fullmatch(call["id"]) for call in calls.values())


def test_a_client_that_loses_pieces_of_calls_gets_them_whole_at_the_end() -> None:
    pieces = [
        [{"index": 0, "id": "call_a", "function": {"name": "f", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"a":'}}],
        [{"index": 0, "function": {"arguments": " 1}"}}],
        [{"index": 1, "id": "call_b", "function": {"name": "g", "arguments": "{}"}}],
    ]
    deltas = delta(content="Let me see."), *(delta(tool_calls=each) for each in pieces)
    for ending in (delta("tool_calls"), delta("stop", tool_calls=[])):
        stream = streamed(replace(CALLS, whole_calls=True), *deltas, ending)
        *before, last = [
            json.loads(line[6:])["choices"][0]
            for line in stream.decode().split("\n\n")
            if line.startswith("data: {")
        ]
        assert before[0]["delta"] == {"content": "Let me see."}
        assert not any("tool_calls" in choice["delta"] for choice in before)
        assert last["finish_reason"] == "tool_calls"
        assert [(call["index"], call["function"]) for call in last["delta"]["tool_calls"]] == [
            (0, {"name": "f", "arguments": '{"a": 1}'}),
            (1, {"name": "g", "arguments": "{}"}),
        ]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("thought", "text", "finish_reason", "content"),
    [
        ("3+4", "Seven.", "stop", "<think>\n3+4\n</think>\nSeven."),
        ("3+4", "", "length", "<think>\n3+4"),
        ("3+4", "", "stop", "<think>\n3+4\n</think>\n"),
        ("", "Seven.", "stop", "Seven."),
    ],
)
def test_reasoning_that_a_server_split_off_is_where_the_client_wants_it(
    name: str, thought: str, text: str, finish_reason: str, content: str
) -> None:
    message = {"role": "assistant", "content": text, name: thought}
    thoughts: list[dict[str, Any]] = [{name: letter} for letter in thought]
    deltas = [
        delta(role="assistant", content=None),
        *(delta(None, **fields) for fields in thoughts),
        *(delta(content=letter) for letter in text),
        delta(finish_reason),
    ]
    answered = whole(JOINED, finish_reason, **message)["message"]
    assert (answered["content"], answered.get("reasoning", "")) == (content, "")
    assert joined(streamed(JOINED, *deltas)) == ("", content, finish_reason)
    answered = whole(SEPARATE, finish_reason, **message)["message"]
    assert (answered.get("reasoning") or "", answered["content"]) == (thought, text)
    assert joined(streamed(SEPARATE, *deltas)) == (thought, text, finish_reason)


def test_reasoning_that_stays_in_the_content_is_left_there() -> None:
    text = "<think>\n3+4\n</think>\nSeven."
    assert whole(JOINED, content=text)["message"]["content"] == text
    assert joined(streamed(JOINED, *(delta(content=letter) for letter in text), delta("stop"))) == (
        "",
        text,
        "stop",
    )
    assert joined(
        streamed(SEPARATE, *(delta(content=letter) for letter in text), delta("stop"))
    ) == (
        "3+4",
        "Seven.",
        "stop",
    )

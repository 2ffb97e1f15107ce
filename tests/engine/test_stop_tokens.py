"""Tokens of `stop_token_ids`, which end text, and neither calls nor JSON."""

import json
from typing import Any

import pytest

from tests.engine.asking import CHAT, COMPLETIONS, RESPONSES, asked, events_of
from tests.engine.fake_llm import EOS, FakeLlm, Part, control, ids, text

ARGUMENTS = '{"a": 1, "b": 2}'
CALL = [control("[TOOL_CALLS]"), *ids("f"), control("[ARGS]"), *ids(ARGUMENTS)]
(COMMA,) = ids(",")
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOLS: dict[str, dict[str, Any]] = {
    CHAT: {"type": "function", "function": FUNCTION},
    RESPONSES: {"type": "function", **FUNCTION},
}


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("path", TOOLS)
async def test_a_stop_token_cuts_no_call(path: str, choice: str) -> None:
    for stream in (False, True):
        engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([EOS], "stop")])
        fields: dict[str, Any] = {
            "tool_choice": choice,
            "stop_token_ids": [COMMA],
            "stream": stream,
        }
        answer = await asked(engine, path, tools=[TOOLS[path]], **fields)
        assert not engine.calls[0].params.stop_token_ids
        if path == RESPONSES:
            body = events_of(answer.text)[-1]["response"] if stream else answer.json()
            arguments, reason = body["output"][0]["arguments"], body["status"]
        else:
            bodies = events_of(answer.text) if stream else [answer.json()]
            choices = [body["choices"][0] for body in bodies]
            calls = [
                call
                for one in choices
                for call in one["delta" if stream else "message"].get("tool_calls") or ()
            ]
            arguments = "".join(call["function"]["arguments"] for call in calls)
            reason = choices[-1]["finish_reason"]
        assert arguments == ARGUMENTS
        assert reason == ("completed" if path == RESPONSES else "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({}, "Yes"),
        ({"include_stop_str_in_output": True}, "Yes,"),
        ({"min_tokens": 5}, "Yes, I do"),
    ],
)
async def test_a_stop_token_ends_the_text_beside_tools(
    fields: dict[str, Any], content: str, stream: bool
) -> None:
    engine = FakeLlm(text("Yes, I do"))
    fields = {"stop_token_ids": [COMMA], "stream": stream, **fields}
    answer = await asked(engine, CHAT, tools=[TOOLS[CHAT]], **fields)
    bodies = events_of(answer.text) if stream else [answer.json()]
    choices = [body["choices"][0] for body in bodies]
    key = "delta" if stream else "message"
    assert "".join(one[key].get("content") or "" for one in choices) == content
    assert choices[-1]["finish_reason"] == "stop"
    assert choices[-1]["stop_reason"] == (None if "I" in content else COMMA)


@pytest.mark.parametrize(
    "form",
    [
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": ".*"}},
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stop_token_cuts_no_demanded_form(path: str, form: dict[str, Any]) -> None:
    engine = FakeLlm(text(ARGUMENTS))
    answer = await asked(engine, path, **form, stop_token_ids=[COMMA])
    assert json.dumps(ARGUMENTS) in answer.text
    assert not engine.calls[0].params.stop_token_ids


async def test_a_stop_token_ends_free_text_in_the_engine() -> None:
    engine = FakeLlm()
    await asked(engine, COMPLETIONS, stop_token_ids=[COMMA])
    assert engine.calls[0].params.stop_token_ids == [COMMA]

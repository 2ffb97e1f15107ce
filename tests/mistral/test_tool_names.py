from typing import Any

import pytest

from serving.mistral.answer import Answer
from serving.mistral.tool_names import shortened
from tests.mistral.test_options import CHAT, MESSAGES, RESPONSES, normalised
from tests.mistral.tokenizers import VERSIONS, prompt, rules

LONG = "mcp__" + "a" * 85 + "get_forecast"
SHORT = shortened(LONG)


def chat(name: str) -> dict[str, Any]:
    function = {"name": name, "arguments": "{}"}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    return {
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": name, "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": name}},
    }


def response(name: str) -> dict[str, Any]:
    call = {"type": "function_call", "call_id": "abcdefghi", "name": name, "arguments": "{}"}
    return {
        "input": [{"role": "user", "content": "x"}, call],
        "tools": [{"type": "function", "name": name, "parameters": {}}],
        "tool_choice": {"type": "function", "name": name},
    }


def message(name: str) -> dict[str, Any]:
    use = {"type": "tool_use", "id": "abcdefghi", "name": name, "input": {}}
    return {
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [use]}],
        "tools": [{"name": name, "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": name},
    }


@pytest.mark.parametrize(
    ("endpoint", "body"), [(CHAT, chat), (RESPONSES, response), (MESSAGES, message)]
)
def test_a_long_name_is_shortened_wherever_it_stands(endpoint: str, body: Any) -> None:
    given = rules(other_server=endpoint == RESPONSES)
    sent, done = normalised(endpoint, given, **body(LONG))
    assert sent == body(SHORT)
    assert done.answer.originals == {SHORT: LONG}
    for name in ("f", "a" * 64, "a" * 129, "a." * 40):
        assert not normalised(endpoint, given, **body(name))[1].changed


def test_a_shortened_name_is_one_of_its_own_and_shows_both_ends() -> None:
    assert len(SHORT) == 64
    assert SHORT.startswith("mcp__aaa") and SHORT.endswith("get_forecast")
    assert shortened(LONG.replace("a" * 85, "a" * 40 + "b" + "a" * 44)) != SHORT
    assert shortened("b" * 65) != shortened("b" * 66)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_tokenizer_takes_a_shortened_name(version: str) -> None:
    assert prompt(version, chat(LONG)) is None
    assert prompt(version, chat(SHORT)) is not None


def test_the_answer_names_the_clients_tool() -> None:
    _, done = normalised(MESSAGES, **message(LONG))
    start = b'event: x\ndata: {"content_block":{"type":"tool_use","name":"%s"}}\n\n'
    stream = start % SHORT.encode()
    answer = Answer(done.answer)
    pieces = [answer.feed(stream[i : i + 7]) for i in range(0, len(stream), 7)]
    assert b"".join(pieces) + answer.end() == start % LONG.encode()
    error = b'{"error": {"message": "Tool %s in %s_x"}}' % (SHORT.encode(), SHORT.encode())
    named = error.replace(SHORT.encode() + b" in", LONG.encode() + b" in")
    assert Answer(done.answer).whole(error, 400) == named

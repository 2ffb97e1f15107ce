"""Errors name messages and items by the places where clients sent them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from serving.mistral.rules import InvalidRequest
from serving.requests import chat, messages, responses, tokenize
from tests.support.reading import READING, RULES

_, TODAY = READING
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
EMPTY = {"role": "assistant", "content": ""}
READERS: dict[str, Any] = {
    "chat": chat.read,
    "tokenize": tokenize.read,
    "messages": messages.read,
    "responses": responses.read,
}
WRONG: dict[str, Any] = {"role": "user", "content": [{"type": "nope"}]}


def error_of(api: str, turns: list[Any], **rules: Any) -> str:
    fields: dict[str, Any] = {"input" if api == "responses" else "messages": turns}
    if api == "messages":
        fields |= {"max_tokens": 9}
    with pytest.raises(InvalidRequest) as refused:
        READERS[api](json.dumps(fields).encode(), replace(RULES, **rules), TODAY)
    assert refused.value.param == next(iter(fields))
    return refused.value.message


@pytest.mark.parametrize("api", READERS)
@pytest.mark.parametrize(
    ("turns", "number"),
    [
        ([USER, WRONG], 1),
        ([USER, EMPTY, WRONG], 2),
        ([EMPTY, EMPTY, USER, EMPTY, WRONG, USER], 4),
        ([USER, EMPTY, {"role": "nobody", "content": "Hi"}], 2),
    ],
)
def test_turns_that_are_dropped_count(api: str, turns: list[Any], number: int) -> None:
    name = "input" if api == "responses" else "messages"
    assert error_of(api, turns).startswith(f"{name}[{number}]")


@pytest.mark.parametrize("api", ["chat", "tokenize"])
def test_a_system_prompt_that_is_added_does_not_count(api: str) -> None:
    assert error_of(api, [WRONG], system_prompt="Be brief.").startswith("messages[0].content[0]")


def test_system_messages_that_are_moved_keep_their_places() -> None:
    said = {"role": "assistant", "content": "Yes."}
    turns = [USER, said, SYSTEM, USER, said, {"role": "system", "content": [WRONG]}, USER]
    assert error_of("chat", turns).startswith("messages[5].content[0]")


def test_a_turn_that_a_rule_has_made_has_no_number() -> None:
    shown = {"type": "image_url", "image_url": {"url": 5}}
    call = {"id": "abcdefghi", "function": {"name": "f", "arguments": "{}"}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "abcdefghi", "content": [shown]}
    message = error_of("chat", [USER, called, result])
    assert message.startswith("messages.content[0].image_url")

"""Whatever a client sends is a request or an InvalidRequest, to the reader of every API."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.mistral import InvalidRequest, ModelRules
from serving.requests import chat, completions, messages, responses, tokenize
from tests.mistral.conversations import BODIES, CONVERSATIONS
from tests.support.reading import READING

Read = Callable[[bytes, ModelRules, datetime.date], Any]
LEAST: dict[Read, dict[str, Any]] = {
    chat.read: {"messages": [{"role": "user", "content": "Hi"}]},
    completions.read: {"prompt": "Hi"},
    responses.read: {"input": "Hi"},
    messages.read: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5},
    messages.read_count: {"messages": [{"role": "user", "content": "Hi"}]},
    tokenize.read: {"messages": [{"role": "user", "content": "Hi"}]},
    lambda raw, *_: tokenize.read_tokens(raw): {"tokens": [1]},
}
"""The readers, and the least that each takes."""
_FUNCTION = {"type": "function", "name": "f", "parameters": "NESTED", "input_schema": "NESTED"}
NESTED: dict[str, Any] = {
    "messages": "NESTED",
    "input": "NESTED",
    "tool_choice": "NESTED",
    "prompt": "NESTED",
    "tools": [_FUNCTION | {"function": _FUNCTION}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "NESTED"}},
    "text": {"format": {"type": "json_schema", "name": "a", "schema": "NESTED"}},
    "metadata": "NESTED",
}
"""Fields in which values may be nested."""

quickly = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def is_read(read: Read, raw: bytes) -> bool:
    """Returns whether it is a request. Raises whatever else than InvalidRequest comes of it."""
    try:
        read(raw, *READING)
    except InvalidRequest as error:
        assert error.message
        return False
    return True


@quickly
@given(BODIES)
def test_any_fields(body: dict[str, Any]) -> None:
    for read, least in LEAST.items():
        assert is_read(read, json.dumps(least).encode())
        is_read(read, json.dumps(body).encode())
        is_read(read, json.dumps(least | body).encode())


@quickly
@given(CONVERSATIONS, BODIES)
def test_any_conversation(conversation: dict[str, Any], body: dict[str, Any]) -> None:
    for read in LEAST:
        is_read(read, json.dumps(body | conversation).encode())
        is_read(read, json.dumps({"input": conversation["messages"]} | body).encode())


@quickly
@given(st.binary(max_size=40), st.integers(0, 60))
def test_any_bytes(some: bytes, at: int) -> None:
    for read, least in LEAST.items():
        raw = json.dumps(least).encode()
        is_read(read, some)
        is_read(read, raw[:at] + some + raw[at:])


@pytest.mark.parametrize("depth", [50, 150, 300, 450, 600, 900, 5000])
@pytest.mark.parametrize(
    ("begin", "end"), [("[", "]"), ('{"content": [', "]}"), ('{"items": ', "}")]
)
def test_any_depth(depth: int, begin: str, end: str) -> None:
    for read, least in LEAST.items():
        for name, value in NESTED.items():
            raw = json.dumps(least | {name: value}).encode()
            nested = begin * depth + "1" + end * depth
            is_read(read, raw.replace(b'"NESTED"', nested.encode()))

"""Requests with a hundred thousand parts are read in a time that grows with their number alone: in
its square, these would take minutes, in which an engine answers nobody."""

import json
from typing import Any

import pytest

from serving.requests import chat, responses
from tests.support.reading import READING

MANY = 100_000
USER = {"role": "user", "content": "Hello"}
NAMES = [f"a{number}" for number in range(MANY)]
CLOSED = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in NAMES},
    "required": NAMES[::-1],
    "additionalProperties": False,
}
OF_DRAFT_3 = {
    "type": "object",
    "properties": {name: {"type": "string", "required": True} for name in NAMES},
    "required": NAMES[::-1],
}
CALLS = [
    {"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"} for name in NAMES
]
MCP_CALLS = [{"type": "mcp_call", "id": f"m{name}", "name": "g"} for name in NAMES]
DIGITS = " ".join(["9" * 4300] * 300)


def functions(count: int) -> list[dict[str, Any]]:
    return [{"type": "function", "name": name} for name in NAMES[:count]]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "name": "f", "parameters": CLOSED}]},
        {"tools": [{"type": "function", "name": "f", "parameters": OF_DRAFT_3}]},
        {"input": [USER, *CALLS, *MCP_CALLS, USER]},
        {
            "tools": functions(MANY),
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": functions(MANY)[::-1],
            },
        },
        {
            "tools": [
                {
                    "type": "custom",
                    "name": "f",
                    "format": {"type": "grammar", "syntax": "regex", "definition": "[" * MANY},
                }
            ]
        },
    ],
    ids=["required", "of draft 3", "calls", "allowed tools", "brackets"],
)
def test_a_response(fields: dict[str, Any]) -> None:
    body = {"model": "m", "input": "Hello", **fields}
    responses.read(json.dumps(body).encode(), *READING)


def test_a_chat() -> None:
    function = {"name": "f", "arguments": json.dumps({"a": DIGITS * 20})}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    result = {"role": "tool", "tool_call_id": "abcdefghi", "content": "r"}
    body = {"model": "m", "messages": [*messages, result, USER]}
    chat.read(json.dumps(body).encode(), *READING)


def test_a_chat_of_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": "a"}, {"type": "redacted_thinking", "data": "b"}]
    turn = {"role": "assistant", "content": parts * MANY}
    body = {"model": "m", "messages": [USER, turn, USER]}
    chat.read(json.dumps(body).encode(), *READING)

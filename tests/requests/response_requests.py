"""Requests to the Responses API for tests."""

import json
from typing import Any

import pytest

from serving.mistral.rules import InvalidRequest
from serving.requests.request import Chat, JsonObject, Request
from serving.requests.responses import ResponseOptions, read
from tests.support.reading import READING

USER: JsonObject = {"role": "user", "content": "Hello"}
FUNCTION: JsonObject = {
    "type": "function",
    "name": "f",
    "description": "Does it.",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
CUSTOM: JsonObject = {"type": "custom", "name": "c", "description": "Runs code."}
SPACE: JsonObject = {
    "type": "namespace",
    "name": "ns",
    "description": "",
    "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "d"}],
}
SCHEMA: JsonObject = {"type": "object", "properties": {"a": {"type": "integer"}}}


def reading(**fields: Any) -> tuple[Request, ResponseOptions]:
    return read(json.dumps({"input": "Hello", **fields}).encode(), *READING)


def request(**fields: Any) -> Request:
    return reading(**fields)[0]


def chat(**fields: Any) -> Chat:
    prompt = request(**fields).prompt
    assert isinstance(prompt, Chat)
    return prompt


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        reading(**fields)
    return caught.value


def call(id: str = "abcdefghi", **fields: Any) -> JsonObject:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}", **fields}


def output(value: Any, **fields: Any) -> JsonObject:
    return {"type": "function_call_output", "call_id": "abcdefghi", "output": value, **fields}


def chat_call(id: str = "abcdefghi", name: str = "f", arguments: str = "{}") -> JsonObject:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}

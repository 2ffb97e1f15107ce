import json
from typing import Any

import pytest

from serving.mistral import InvalidRequest, Normalised
from serving.requests import tokenize
from serving.requests.request import Chat
from tests.support.reading import READING

MESSAGES = [{"role": "user", "content": "Hi"}]
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
PATHS = ("tools[0].function.parameters",)


def read(**fields: Any) -> tokenize.TokenizeRequest:
    return tokenize.read(json.dumps(fields).encode(), *READING)


def refused(**fields: Any) -> str | None:
    with pytest.raises(InvalidRequest) as error:
        read(**fields)
    return error.value.param


def test_a_text() -> None:
    assert read(prompt="Hi") == tokenize.TokenizeRequest(None, "Hi", True, False, Normalised())
    request = read(prompt="", model="m", add_special_tokens=False, return_token_strs=True)
    assert request == tokenize.TokenizeRequest("m", "", False, True, Normalised())


def test_a_chat() -> None:
    assert read(messages=MESSAGES).prompt == Chat(MESSAGES)
    messages = [*MESSAGES, {"role": "assistant", "content": "Hel"}]
    request = read(messages=messages, tools=[TOOL], continue_final_message=True)
    assert request.prompt == Chat(messages, [TOOL], True, schema_paths=PATHS)


def test_tools_are_as_a_chat_completion_has_them() -> None:
    tool = {"type": "function", "function": FUNCTION | {"strict": None, "other": 1}}
    assert read(messages=MESSAGES, tools=[tool]).prompt == Chat(
        MESSAGES, [TOOL], schema_paths=PATHS
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "friend", "content": "Hi"}]}, "messages"),
        ({"messages": MESSAGES, "tools": [{"type": "function"}]}, "tools"),
        ({"messages": MESSAGES, "tools": 1}, "tools"),
        ({"prompt": "Hi", "add_special_tokens": "maybe"}, "add_special_tokens"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields) == param


def test_tokens() -> None:
    request = tokenize.read_tokens(b'{"tokens": [1, 2], "model": "m"}')
    assert (request.tokens, request.model) == ([1, 2], "m")


@pytest.mark.parametrize("body", [b"{}", b'{"tokens": "a"}', b'{"tokens": [1.5]}'])
def test_tokens_that_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="tokens"):
        tokenize.read_tokens(body)

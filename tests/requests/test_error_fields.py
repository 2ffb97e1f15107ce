"""Requests whose fields are wrong, on each API: the error names the field."""

import json
from typing import Any

import pytest

from serving.mistral import InvalidRequest
from serving.requests import chat, completions, messages, responses
from tests.support.reading import READING

USER = {"role": "user", "content": "Hello"}


def refusal(read: Any, **body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        read(json.dumps(body).encode(), *READING)
    return raised.value


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_below_one_is_named_as_the_client_did(name: str) -> None:
    error = refusal(chat.read, messages=[USER], **{name: 0})
    assert error.param == name and name in error.message


def test_only_an_assistants_message_is_continued() -> None:
    begun = [USER, {"role": "assistant", "content": "Hi"}]
    error = refusal(chat.read, messages=begun, continue_final_message=False)
    assert error.param == "messages" and "continue_final_message" in str(error)
    error = refusal(chat.read, messages=[USER], continue_final_message=True)
    assert error.param == "continue_final_message"


@pytest.mark.parametrize(("name", "value"), [("min_p", 1.5), ("repetition_penalty", 0)])
@pytest.mark.parametrize(
    ("read", "body"),
    [
        (chat.read, {"messages": [USER]}),
        (completions.read, {"prompt": "Hello"}),
        (responses.read, {"input": "Hello"}),
    ],
)
def test_values_out_of_range_are_named(read: Any, body: Any, name: str, value: float) -> None:
    assert refusal(read, **body, **{name: value}).param == name


def test_a_missing_field_is_named() -> None:
    error = refusal(responses.read, model="x")
    assert (error.param, error.message) == ("input", "input: the field is missing.")


@pytest.mark.parametrize(
    ("read", "tool"),
    [
        (chat.read, lambda **schema: {"function": {"name": "f", "parameters": schema}}),
        (messages.read, lambda **schema: {"name": "f", "input_schema": schema}),
        (responses.read, lambda **schema: {"type": "function", "name": "f", "parameters": schema}),
    ],
)
def test_different_tools_of_one_name_are_refused(read: Any, tool: Any) -> None:
    body = {"max_tokens": 9, "messages": [USER], "input": "Hello"}
    error = refusal(read, **body, tools=[tool(), tool(required=["a"])])
    assert error.param == "tools" and '"f"' in error.message
    read(json.dumps({**body, "tools": [tool(), tool()]}).encode(), *READING)


BEGUN = [USER, {"role": "assistant", "content": '{"a":'}]
ANY = {"type": "json_schema", "name": "a", "schema": {"type": "object"}}
FORMAT = {"type": "json_schema", "json_schema": ANY}


@pytest.mark.parametrize(
    ("read", "body", "field"),
    [
        (chat.read, {"response_format": FORMAT}, "response_format"),
        (chat.read, {"response_format": {"type": "json_object"}}, "response_format"),
        (chat.read, {"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        (messages.read, {"output_config": {"format": ANY}}, "output_config.format"),
        (responses.read, {"text": {"format": ANY}}, "text.format"),
        (responses.read, {"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
    ],
)
def test_an_answer_of_a_demanded_form_continues_no_other(read: Any, body: Any, field: str) -> None:
    body = {**body, "max_tokens": 9}
    error = refusal(read, **body, messages=BEGUN, input=BEGUN)
    assert error.param == field and error.message.count(field) == 2
    goes_on = [*BEGUN, USER]
    read(json.dumps({**body, "messages": goes_on, "input": goes_on}).encode(), *READING)


def test_a_begun_message_of_mistrals_api_is_no_exception() -> None:
    begun = [USER, {**BEGUN[1], "prefix": True}]
    assert refusal(chat.read, messages=begun, response_format=FORMAT).param == "response_format"

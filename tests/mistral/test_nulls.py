from typing import Any

import pytest

from tests.mistral.test_options import CHAT, MESSAGES, RESPONSES, TOOL, normalised

COMPLETIONS = "/v1/completions"
USER = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (CHAT, "tool_choice"),
        (CHAT, "parallel_tool_calls"),
        (CHAT, "include_reasoning"),
        (CHAT, "functions"),
        (CHAT, "chat_template"),
        (CHAT, "repetition_detection"),
        (COMPLETIONS, "n"),
        (COMPLETIONS, "best_of"),
        (RESPONSES, "tools"),
        (RESPONSES, "tool_choice"),
        (RESPONSES, "truncation"),
        (RESPONSES, "service_tier"),
        (RESPONSES, "previous_response_id"),
        (RESPONSES, "conversation"),
        (MESSAGES, "tool_choice"),
        (MESSAGES, "mcp_servers"),
        (MESSAGES, "context_management"),
    ],
)
def test_a_null_field_is_as_if_left_out(endpoint: str, field: str) -> None:
    body, done = normalised(endpoint, temperature=0.5, **{field: None})
    assert body == {"temperature": 0.5}
    assert done.changed and not done.warnings


def test_a_null_choice_leaves_the_tools() -> None:
    assert normalised(CHAT, tools=[TOOL], tool_choice=None)[0] == {"tools": [TOOL]}
    body, _ = normalised(CHAT, tools=[{**TOOL, "type": None}])
    assert body == {"tools": [{"function": TOOL["function"]}]}


@pytest.mark.parametrize("role", ["user", "system", "assistant"])
@pytest.mark.parametrize("field", ["name", "tool_calls", "prefix"])
def test_null_fields_of_a_message_that_vllm_rejects(role: str, field: str) -> None:
    body, _ = normalised(CHAT, messages=[{"role": role, "content": "x", field: None}, USER])
    assert body["messages"] == [{"role": role, "content": "x"}, USER]


def test_null_fields_of_items_and_parts() -> None:
    text = {"type": "output_text", "text": "Hi.", "annotations": None, "logprobs": None}
    answer = {"type": "message", "role": "assistant", "id": None, "status": None, "phase": None}
    call = {"type": "function_call", "call_id": "abcdefghi", "name": "f", "arguments": "{}"}
    items = [
        {"type": None, **USER},
        {**answer, "content": [text]},
        {**call, "id": None, "status": None},
        {"type": "function_call_output", "call_id": "abcdefghi", "id": None, "output": None},
    ]
    body, _ = normalised(RESPONSES, input=items)
    assert body["input"] == [
        USER,
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi."}],
        },
        call,
        {"type": "function_call_output", "call_id": "abcdefghi", "output": ""},
    ]


def test_nulls_within_a_schema_and_within_arguments_stay() -> None:
    parameters: dict[str, Any] = {"properties": {"a": {"enum": [None], "default": None}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    assert not normalised(CHAT, tools=[tool])[1].changed
    use = {"type": "tool_use", "id": "abcdefghi", "name": "f", "input": {"a": None}}
    messages = [USER, {"role": "assistant", "content": [use]}]
    assert not normalised(MESSAGES, messages=messages)[1].changed

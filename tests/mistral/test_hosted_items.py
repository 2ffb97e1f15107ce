import json
from typing import Any, get_args, get_type_hints

import pytest
from openai.types.responses import ResponseInputItemParam

from tests.mistral.test_options import RESPONSES, normalised
from tests.requests.response_requests import CUSTOM, FUNCTION, SPACE, USER, chat, refused, request

ANSWER = {"type": "message", "role": "assistant", "content": "It is out.", "status": "completed"}
HOSTED: list[dict[str, Any]] = [
    {"type": "code_interpreter_call", "id": "ci", "code": "1", "container_id": "c"},
    {"type": "compaction", "encrypted_content": "gAAA"},
    {"type": "computer_call", "id": "cu", "call_id": "c", "action": {"type": "screenshot"}},
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
    {"type": "configuration_update", "reasoning": {"effort": "high"}},
    {"type": "file_search_call", "id": "fs", "queries": ["q"], "status": "completed"},
    {"type": "image_generation_call", "id": "ig", "result": "AA==", "status": "completed"},
    {"type": "mcp_approval_request", "id": "a", "arguments": "{}", "name": "f"},
    {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
    {"type": "mcp_list_tools", "id": "l", "server_label": "s", "tools": []},
    {"type": "program", "id": "p", "call_id": "c", "code": "1", "fingerprint": "x"},
    {"type": "program_output", "id": "p", "call_id": "c", "result": "1", "status": "completed"},
    {"type": "tool_search_call", "call_id": "t", "execution": "client", "arguments": {}},
    {"type": "web_search_call", "id": "ws", "status": "completed"},
]
CALLS = [
    ("local_shell", {"action": {"type": "exec", "command": ["ls"], "env": {}}}),
    ("shell", {"action": {"commands": ["ls"]}}),
    ("apply_patch", {"operation": {"type": "delete_file", "path": "a"}}),
]


@pytest.mark.parametrize("item", HOSTED, ids=lambda item: str(item["type"]))
def test_what_only_openai_can_use_is_dropped(item: dict[str, Any]) -> None:
    body, done = normalised(RESPONSES, input=[USER, item, ANSWER, item, USER])
    assert body["input"] == [USER, ANSWER, USER]
    assert done.changed
    (warning,) = done.warnings
    assert item["type"] in warning and "only OpenAI's service" in warning


def test_no_item_of_openais_api_ends_a_session() -> None:
    known = {item["type"] for item in HOSTED}
    known |= {f"{name}_call{end}" for name, _ in CALLS for end in ("", "_output")}
    known |= {"message", "reasoning", "mcp_call", "tool_search_output", "additional_tools"}
    known |= {
        f"{kind}_call{end}" for kind in ("function", "custom_tool") for end in ("", "_output")
    }
    asking = {"item_reference", "compaction_trigger"}
    kinds = {
        get_args(hint)[0]
        for item in get_args(ResponseInputItemParam)
        for hint in [get_type_hints(item)["type"]]
        if isinstance(get_args(hint)[0], str)
    }
    assert kinds - asking <= known


def test_unknown_items_are_refused() -> None:
    for kind in ("compaction_trigger", "code_interpreter", "x"):
        assert kind in refused(input=[USER, {"type": kind}]).message
    update = {"type": "configuration_update", "text": {"format": {"type": "text"}}}
    assert refused(input=[USER, update, USER]).param == "input"


@pytest.mark.parametrize("kind", ["tool_search_output", "additional_tools"])
@pytest.mark.parametrize(
    "tools", [{}, {"tools": [{**CUSTOM, "name": "own"}, {"type": "tool_search"}]}]
)
def test_tools_in_items_can_be_called(kind: str, tools: dict[str, Any]) -> None:
    item = {"type": kind, "tools": [FUNCTION, CUSTOM, SPACE]}
    more: dict[str, Any] = {
        "type": kind,
        "tools": [FUNCTION, {**SPACE, "tools": [*SPACE["tools"], FUNCTION]}],
    }
    more["tools"].append({**SPACE, "tools": [{**FUNCTION, "name": "g"}]})
    made = request(input=[USER, item, ANSWER, more, USER], **tools)
    names = [tool.name for tool in made.tools.callable]
    assert names == [*(["own"] if tools else []), "f", "c", "ns__f", "ns__d", "ns__g"]
    left_out = ("tool_search was left out of tools: this service does not run it",)
    assert made.normalised.warnings == (left_out if tools else ())


def test_tools_of_the_request_hold_over_those_found() -> None:
    found = {"type": "tool_search_output", "tools": [{**FUNCTION, "description": "Other."}]}
    body, _ = normalised(RESPONSES, input=[USER, found, USER], tools=[FUNCTION])
    assert body["tools"] == [FUNCTION] and body["input"] == [USER, USER]


@pytest.mark.parametrize("tools", [None, "x", [1], [{"type": "mcp"}], [{"type": ["a"]}]])
def test_hosted_tools_in_items_are_left_out(tools: Any) -> None:
    found = {"type": "tool_search_output", "tools": tools}
    body, done = normalised(RESPONSES, input=[USER, found, USER])
    assert body == {"input": [USER, USER]}
    assert bool(done.warnings) == (tools is not None and isinstance(tools[0], dict))


def test_a_call_of_an_mcp_server_keeps_its_result() -> None:
    called = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "g"}
    done = {**called, "arguments": '{"a": 1}', "output": "42"}
    failed = {**called, "id": "mcp_2", "arguments": "{}", "error": {"code": 5}}
    _, first, result, second, error, _ = chat(input=[USER, done, failed, USER]).messages
    (call,) = first["tool_calls"]
    assert call["function"] == {"name": "g", "arguments": '{"a": 1}'}
    assert (result["tool_call_id"], result["content"]) == (call["id"], "42")
    assert error["tool_call_id"] == second["tool_calls"][0]["id"]
    assert error["content"] == '{"code": 5}'


def test_results_of_the_client_still_follow_their_calls() -> None:
    own = [{"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"} for id in "ab"]
    outputs = [{"type": "function_call_output", "call_id": id, "output": id} for id in "ab"]
    hosted = {"type": "mcp_call", "id": "m", "name": "g", "arguments": "{}", "output": "m"}
    said = {"role": "assistant", "content": "Wait."}
    made = chat(input=[USER, own[0], hosted, own[1], said, *outputs]).messages
    assert [message.get("content") for message in made] == ["Hello", None, "m", "Wait.", "a", "b"]
    assert [len(message.get("tool_calls", ())) for message in made] == [0, 1, 0, 2, 0, 0]


@pytest.mark.parametrize(("name", "fields"), CALLS)
@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"output": "a.txt"}, "a.txt"),
        ({"output": [{"stdout": "é"}]}, '[{"stdout": "é"}]'),
        ({"status": "failed"}, "failed"),
    ],
)
@pytest.mark.parametrize("reference", [{"call_id": "call_1"}, {"id": "call_1"}, {"id": "lsh_1"}])
def test_what_a_client_has_run_stays_readable(
    name: str, fields: dict[str, Any], output: dict[str, Any], text: str, reference: dict[str, Any]
) -> None:
    call = {"type": f"{name}_call", "id": "lsh_1", "call_id": "call_1", **fields}
    result = {"type": f"{name}_call_output", **reference, **output}
    _, called, answered = chat(input=[USER, call, result]).messages
    (made,) = called["tool_calls"]
    assert made["function"]["name"] == name
    assert json.loads(made["function"]["arguments"]) == next(iter(fields.values()))
    assert (answered["tool_call_id"], answered["content"]) == (made["id"], text)


def test_an_output_without_its_call_is_dropped() -> None:
    orphan = {"type": "shell_call_output", "call_id": "a", "output": []}
    body, done = normalised(RESPONSES, input=[USER, orphan, USER])
    assert body["input"] == [USER, USER] and "shell_call_output" in done.warnings[0]

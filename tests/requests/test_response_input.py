from typing import Any

import pytest
from mistral_common.protocol.instruct.messages import AssistantMessage, ToolMessage, UserMessage

from serving.requests.request import JsonObject
from tests.requests.response_requests import USER, call, chat, chat_call, output, refused


def messages(*items: Any) -> list[JsonObject]:
    return chat(input=list(items)).messages


def test_a_string_is_the_users_message() -> None:
    assert chat(instructions="Be brief.").messages == [
        {"role": "system", "content": "Be brief."},
        USER,
    ]


@pytest.mark.parametrize(
    ("role", "expected"),
    [("user", "user"), ("assistant", "assistant"), ("system", "system"), ("developer", "system")],
)
def test_roles(role: str, expected: str) -> None:
    item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": "a"}]}
    assert messages(item) == [{"role": expected, "content": "a"}]


def test_images_of_results_follow_all_results() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    text = {"type": "input_text", "text": "a"}
    results = output([text, image]), output([image])
    *_, first, second, images = messages(USER, call(), call(), *results)
    assert [first["content"], second["content"]] == ["a", ""]
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    assert images == {"role": "user", "content": [part, part]}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_text", "text": "a"},
        {"type": "output_text", "text": "a", "annotations": []},
        {"type": "text", "text": "a"},
        {"type": "refusal", "refusal": "a"},
    ],
)
def test_texts_of_any_type_are_joined(part: JsonObject) -> None:
    assert messages({"role": "user", "content": [part, part]}) == [
        {"role": "user", "content": "a\n\na"}
    ]


def test_images_stay_parts() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    expected = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    parts = [{"type": "input_text", "text": "What?"}, image]
    (message,) = messages({"role": "user", "content": parts})
    assert message == {"role": "user", "content": expected}
    UserMessage.from_openai(message)
    *_, result, shown = messages(USER, call(), output(parts))
    assert (result["content"], shown["content"]) == ("What?", expected[1:])
    ToolMessage.from_openai(result)


def test_calls_and_the_text_before_them_are_one_message() -> None:
    made = messages(
        USER,
        {"type": "message", "role": "assistant", "content": "Let me see."},
        call(),
        call("bbbbbbbbb"),
        output("1"),
        output("2", call_id="bbbbbbbbb"),
    )
    assert made[1:] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [chat_call(), chat_call("bbbbbbbbb")],
        },
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "1"},
        {"role": "tool", "tool_call_id": "bbbbbbbbb", "content": "2"},
    ]
    AssistantMessage.from_openai(made[1])


def test_calls_alone_and_then_text() -> None:
    made = messages(
        USER, call(), {"role": "assistant", "content": "Wait."}, output(None), call(), USER
    )
    assert made[1:] == [
        {"role": "assistant", "tool_calls": [chat_call()], "content": "Wait."},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": ""},
        {"role": "assistant", "tool_calls": [chat_call()]},
        USER,
    ]
    AssistantMessage.from_openai(made[3])


def test_calls_of_custom_tools_have_their_input_as_argument() -> None:
    custom = {"type": "custom_tool_call", "call_id": "abcdefghi", "name": "c", "input": 'é"'}
    made = messages(USER, custom, output([{"type": "input_text", "text": "1"}]))
    assert made[1]["tool_calls"] == [chat_call(name="c", arguments='{"input": "é\\""}')]
    assert made[2]["content"] == "1"


def test_calls_of_namespaces_have_the_models_name() -> None:
    (_, message, _) = messages(USER, call(namespace="ns"), output(""))
    assert message["tool_calls"] == [chat_call(name="ns__f")]


def test_reasoning_is_left_out() -> None:
    thought = {"type": "reasoning", "summary": [], "content": []}
    assert messages(USER, thought, call(), USER)[1:] == [
        {"role": "assistant", "tool_calls": [chat_call()]},
        USER,
    ]


@pytest.mark.parametrize(
    ("status", "continued"),
    [("incomplete", True), ("in_progress", True), (None, True), ("completed", False)],
)
def test_a_begun_answer_is_continued(status: str | None, continued: bool) -> None:
    begun = {"type": "message", "role": "assistant", "content": "I am", "status": status}
    items = [USER, begun, *([] if continued else [USER])]
    assert chat(input=items).continue_final_message is continued


COMPLETED = {"type": "message", "role": "assistant", "content": "I am.", "status": "completed"}
CUSTOM_CALL = {"type": "custom_tool_call", "call_id": "abcdefghi", "name": "c", "input": ""}


@pytest.mark.parametrize(
    ("items", "what"),
    [
        ([COMPLETED], "message of the user's"),
        ([COMPLETED, {"type": "reasoning", "summary": []}], "message of the user's"),
        ([COMPLETED, {"type": "web_search_call", "id": "ws"}], "message of the user's"),
        ([call()], "function_call_output"),
        ([COMPLETED, call(), call("bbbbbbbbb")], "function_call_output"),
        ([CUSTOM_CALL], "custom_tool_call_output"),
        ([{"type": "local_shell_call", "call_id": "a", "action": {}}], "function_call_output"),
    ],
)
def test_an_input_that_leaves_nothing_to_answer_is_refused(items: Any, what: str) -> None:
    error = refused(input=[USER, *items])
    assert (error.param, error.code) == ("input", "invalid_value")
    assert error.message.startswith("input ") and what in error.message


@pytest.mark.parametrize(
    ("item", "place"),
    [
        (1, "input[0]"),
        ({"role": "robot", "content": "a"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": [1]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}, "image_url"),
        ({"role": "assistant", "content": [{"type": "input_image", "image_url": "x"}]}, "[0]"),
        (call(arguments=1), "input[0].arguments"),
        (call(name=None), "input[0].name"),
        (call(call_id=None), "input[0].call_id"),
        (output(1), "input[0].output"),
        ({"type": "custom_tool_call", "call_id": "a", "name": "c"}, "input[0].input"),
        ({"type": "item_reference", "id": "a"}, "item_reference"),
        ({"type": ["a"]}, "input[0]"),
    ],
)
def test_wrong_items_are_refused(item: Any, place: str) -> None:
    error = refused(input=[item])
    assert error.param == "input" and place in error.message

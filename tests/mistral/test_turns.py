import copy
import datetime
from typing import Any

import pytest

from serving.mistral import Normalised, normalise
from serving.mistral.turns import (
    CONTINUED_WARNING,
    LAST_SYSTEM_WARNING,
    LATE_SYSTEM_WARNING,
    REASONING_WARNING,
)
from tests.mistral.tokenizers import VERSIONS, prompt, rules

TODAY = datetime.date(2026, 3, 1)
USER: dict[str, Any] = {"role": "user", "content": "Hello"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "42"}
DATA_URL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # noqa: E501

EMPTY = [{}, {"content": None}, {"content": ""}, {"content": []}]
EMPTY_TEXT = {"content": [{"type": "text", "text": ""}]}


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", **copy.deepcopy(fields)}


def normalised(
    *messages: dict[str, Any], version: str = "v11", thinks: bool = False, **fields: Any
) -> tuple[list[dict[str, Any]], Normalised]:
    body = copy.deepcopy({"messages": list(messages), **fields})
    done = normalise("/v1/chat/completions", body, rules(version, thinks=thinks), TODAY)
    return body["messages"], done


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fields", [*EMPTY, EMPTY_TEXT, {"content": "", "tool_calls": []}])
def test_an_empty_turn_is_dropped_which_each_tokenizer_refuses(
    version: str, fields: dict[str, Any]
) -> None:
    messages = [USER, assistant(**fields), USER]
    assert prompt(version, {"messages": messages}) is None
    kept, done = normalised(*messages, version=version)
    assert (kept, done.changed, done.warnings) == ([USER, USER], True, ())
    assert prompt(version, {"messages": kept}) is not None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fields", EMPTY)
def test_beside_tool_calls_any_empty_content_is_right_and_the_same(
    version: str, fields: dict[str, Any]
) -> None:
    messages = [USER, assistant(tool_calls=[CALL], **fields), RESULT]
    kept, done = normalised(*messages, version=version)
    assert (kept, done.changed) == (messages, False)
    usual = [USER, assistant(tool_calls=[CALL], content=""), RESULT]
    assert prompt(version, {"messages": kept}) == prompt(version, {"messages": usual})


def test_an_empty_last_turn_that_is_to_be_continued_stays() -> None:
    messages = [USER, assistant(content="")]
    options: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
    assert normalised(*messages, **options)[0] == messages
    assert normalised(*messages)[0] == [USER]


def test_a_conversation_of_nothing_but_empty_turns_is_left_to_the_engine() -> None:
    assert normalised(assistant(content=""))[0] == [assistant(content="")]


@pytest.mark.parametrize("version", ["v7", "v11"])
@pytest.mark.parametrize(
    "fields",
    [
        {"content": "7", "reasoning": "3+4"},
        {"content": "7", "reasoning_content": "3+4"},
        {"content": "7", "reasoning": "3+4", "reasoning_content": "3+4"},
        {"content": [{"type": "thinking", "thinking": "3+4"}, {"type": "text", "text": "7"}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "3+4"}]},
                {"type": "text", "text": "7"},
            ]
        },
    ],
)
def test_reasoning_of_earlier_turns_is_where_magistral_wrote_it(
    version: str, fields: dict[str, Any]
) -> None:
    messages = [USER, assistant(**fields), USER]
    assert prompt(version, {"messages": messages}) is None
    kept, done = normalised(*messages, version=version, thinks=True)
    as_written = [USER, assistant(content="<think>\n3+4\n</think>\n7"), USER]
    text = prompt(version, {"messages": as_written})
    assert text is not None and prompt(version, {"messages": kept}) == text
    assert done.changed and not done.warnings

    kept, done = normalised(*messages, version=version, thinks=False)
    text = prompt(version, {"messages": [USER, assistant(content="7"), USER]})
    assert prompt(version, {"messages": kept}) == text
    assert done.warnings == (REASONING_WARNING,)


def test_a_turn_of_reasoning_alone() -> None:
    turn = assistant(content=None, reasoning="hm")
    kept, _ = normalised(USER, turn, USER, thinks=True)
    assert kept[1] == assistant(content="<think>\nhm\n</think>\n")
    kept, _ = normalised(USER, turn, USER, thinks=False)
    assert kept == [USER, USER]


@pytest.mark.parametrize("fields", [{"reasoning": ""}, {"reasoning": None}])
def test_no_reasoning_in_the_field_for_it(fields: dict[str, Any]) -> None:
    kept, done = normalised(USER, assistant(content="7", **fields), USER)
    assert prompt("v11", {"messages": kept}) is not None
    assert not done.warnings


@pytest.mark.parametrize("version", VERSIONS)
def test_encrypted_thoughts_are_dropped(version: str) -> None:
    redacted = {"type": "redacted_thinking", "data": "EmwKAhgB"}
    turn = assistant(content=[redacted, {"type": "text", "text": "7"}])
    kept, _ = normalised(USER, turn, assistant(content=[redacted]), USER, version=version)
    assert kept == [USER, assistant(content=[{"type": "text", "text": "7"}]), USER]


@pytest.mark.parametrize("names", [["reasoning"], ["reasoning", "reasoning_content"]])
def test_tokenizer_v13_has_tokens_for_reasoning(names: list[str]) -> None:
    messages = [USER, assistant(content="7", **dict.fromkeys(names, "3+4")), USER]
    kept, done = normalised(*messages, version="v13", thinks=True)
    assert (kept, done.changed) == (messages, False)
    assert "[THINK]3+4[/THINK]7" in (prompt("v13", {"messages": kept}) or "")


def test_thoughts_of_mistrals_own_api_are_read_by_tokenizer_v13_too() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "3+4"}]}
    turn = assistant(content=[thinking, {"type": "text", "text": "7"}])
    assert prompt("v13", {"messages": [USER, turn, USER]}) is None
    kept, _ = normalised(USER, turn, USER, version="v13", thinks=True)
    assert "[THINK]3+4[/THINK]7" in (prompt("v13", {"messages": kept}) or "")


def test_the_role_developer_is_system() -> None:
    kept, _ = normalised({"role": "developer", "content": "Be brief."}, USER)
    assert kept[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_system_message_after_an_assistants_moves_up(version: str, role: str) -> None:
    first = {"role": "system", "content": "first"}
    late = {"role": role, "content": "late"}
    turn = assistant(content="x")
    kept, done = normalised(first, USER, turn, late, late, USER, version=version)
    system = {"role": "system", "content": "late"}
    assert kept == [first, system, system, USER, turn, USER]
    assert done.warnings == (LATE_SYSTEM_WARNING,)
    assert prompt(version, {"messages": kept}) is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_system_message_that_asks_for_the_next_answer_is_the_users(version: str) -> None:
    turn = assistant(content="x")
    asks = [{"role": role, "content": "Go on."} for role in ("system", "developer")]
    kept, done = normalised(USER, turn, *asks, version=version)
    assert kept == [USER, turn, *[{"role": "user", "content": "Go on."}] * 2]
    assert done.warnings == (LAST_SYSTEM_WARNING,)
    assert prompt(version, {"messages": kept}) is not None


def test_a_system_message_after_a_users_is_right_and_stays() -> None:
    messages = [USER, {"role": "system", "content": "s"}, USER]
    assert prompt("v11", {"messages": messages}) is not None
    kept, done = normalised(*messages)
    assert (kept, done.changed) == (messages, False)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"arguments": {"city": "Zürich"}}, '{"city": "Zürich"}'),
        ({"arguments": {}}, "{}"),
        ({"arguments": None}, "{}"),
        ({}, "{}"),
    ],
)
@pytest.mark.parametrize("kind", [{}, {"type": None}, {"type": "function"}])
def test_a_call_as_mistrals_own_api_has_it(
    version: str, arguments: dict[str, Any], text: str, kind: dict[str, Any]
) -> None:
    call = {"id": "abcdefghi", **kind, "function": {"name": "f", **arguments}}
    kept, _ = normalised(USER, assistant(tool_calls=[call]), RESULT, version=version)
    function = {"name": "f", "arguments": text}
    assert kept[1]["tool_calls"] == [{"id": "abcdefghi", "type": "function", "function": function}]
    assert prompt(version, {"messages": kept}) is not None


@pytest.mark.parametrize("fields", [{}, {"content": None}])
def test_a_tool_result_without_content_is_an_empty_one(fields: dict[str, Any]) -> None:
    result = {"role": "tool", "tool_call_id": "abcdefghi", **fields}
    kept, _ = normalised(USER, assistant(tool_calls=[CALL]), result)
    assert kept[2]["content"] == ""
    assert prompt("v11", {"messages": kept}) is not None


def test_a_tools_name_that_the_tokenizer_rejects_is_dropped() -> None:
    messages = [USER, assistant(tool_calls=[CALL]), {**RESULT, "name": "server.tool"}]
    assert prompt("v11", {"messages": messages}) is None
    kept, _ = normalised(*messages)
    assert prompt("v11", {"messages": kept}) == prompt("v11", {"messages": [*messages[:2], RESULT]})


def test_an_image_url_as_mistrals_own_api_has_it() -> None:
    kept, _ = normalised(
        {"role": "user", "content": [{"type": "image_url", "image_url": DATA_URL}]}
    )
    assert kept[0]["content"] == [{"type": "image_url", "image_url": {"url": DATA_URL}}]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"content": None}, "No."),
        ({}, "No."),
        ({"content": ""}, "No."),
        ({"content": "Well."}, "Well.\n\nNo."),
        (
            {"content": [{"type": "text", "text": "Well."}]},
            [{"type": "text", "text": "Well."}, {"type": "text", "text": "No."}],
        ),
    ],
)
def test_a_refused_message_as_openais_client_sends_it_stays_in_the_conversation(
    version: str, content: dict[str, Any], text: Any
) -> None:
    kept, done = normalised(USER, assistant(**content, refusal="No."), USER, version=version)
    assert kept == [USER, {"role": "assistant", "content": text}, USER]
    assert (done.changed, done.warnings) == (True, ())
    shown = prompt(version, {"messages": kept})
    assert shown is not None and "No." in shown


def test_an_empty_refusal_is_no_turn() -> None:
    assert normalised(USER, assistant(content=None, refusal=""), USER)[0] == [USER, USER]


def test_a_refusal_is_a_text() -> None:
    refusal = assistant(content=[{"type": "refusal", "refusal": "No."}])
    kept, _ = normalised(USER, refusal, USER)
    assert kept[1]["content"] == [{"type": "text", "text": "No."}]
    assert prompt("v11", {"messages": kept}) is not None


def test_the_answer_of_this_service_goes_back_as_it_came() -> None:
    answer = assistant(
        content="7", refusal=None, annotations=None, audio=None, function_call=None, reasoning=None
    )
    messages = [USER, answer, USER]
    assert not normalised(*messages)[1].changed
    assert prompt("v11", {"messages": messages}) is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_results_after_a_users_turn_join_those_before_it(version: str) -> None:
    second = {**CALL, "id": "second000"}
    calls = assistant(tool_calls=[CALL, second])
    result = {**RESULT, "tool_call_id": "second000"}
    messages = [USER, calls, RESULT, USER, result, USER]
    assert prompt(version, {"messages": messages}) is None
    kept, done = normalised(*messages, version=version)
    assert kept == [USER, calls, RESULT, result, USER, USER] and not done.warnings
    assert prompt(version, {"messages": kept}) is not None


@pytest.mark.parametrize(
    "messages",
    [
        [USER, RESULT],
        [USER, assistant(tool_calls=[CALL]), RESULT, assistant(content="x"), RESULT, USER],
        [USER, assistant(tool_calls=[CALL]), RESULT, USER, assistant(content="x"), USER],
    ],
)
def test_no_other_result_moves(messages: list[dict[str, Any]]) -> None:
    kept, done = normalised(*messages)
    assert kept == messages and not done.changed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("content", ["7", [{"type": "text", "text": "7"}]])
def test_a_last_message_of_the_assistants_is_continued(version: str, content: Any) -> None:
    body: dict[str, Any] = {"messages": [USER, assistant(content=content)]}
    assert prompt(version, body) is None
    done = normalise("/v1/chat/completions", body, rules(version), TODAY)
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
    assert done.warnings == (CONTINUED_WARNING,)


@pytest.mark.parametrize(
    ("last", "fields"),
    [
        (assistant(content="7"), {"continue_final_message": False}),
        (assistant(content="7", tool_calls=[CALL]), {}),
        (USER, {}),
        (RESULT, {}),
    ],
)
def test_no_other_chat_is_continued(last: dict[str, Any], fields: dict[str, Any]) -> None:
    body = {"messages": [USER, assistant(tool_calls=[CALL]), last], **fields}
    normalise("/v1/chat/completions", body, rules(), TODAY)
    assert not body.get("continue_final_message")


@pytest.mark.parametrize("version", VERSIONS)
def test_images_of_results_follow_the_results(version: str) -> None:
    second = {**CALL, "id": "second000"}
    calls = assistant(tool_calls=[CALL, second])
    text = {"type": "text", "text": "42"}
    image = {"type": "image_url", "image_url": {"url": DATA_URL}}
    with_image = {**RESULT, "content": [text, image]}
    alone = {**RESULT, "tool_call_id": "second000", "content": [image]}
    messages = [USER, calls, with_image, alone, USER]
    assert prompt(version, {"messages": messages}) is None
    shown = [{"role": "user", "content": [image, image]}]
    results = [{**with_image, "content": [text]}, {**alone, "content": []}]
    kept, done = normalised(*messages, version=version)
    assert kept == [USER, calls, *results, *shown, USER] and not done.warnings
    assert prompt(version, {"messages": kept}) is not None
    assert normalised(*messages[:-1], version=version)[0] == kept[:-1]

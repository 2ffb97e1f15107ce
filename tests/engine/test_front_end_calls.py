"""Calls of tools in answers: cut off, whole for clients that need that, or no calls at all."""

from typing import Any

import pytest

from tests.engine.asking import CHAT, MESSAGES, RESPONSES, asked, events_of
from tests.engine.fake_llm import EOS, FakeLlm, Part, control, ids
from tests.engine.tools import TOOLS

CALL = [control("[TOOL_CALLS]"), *ids("f"), control("[ARGS]"), *ids('{"a": 1, "b": [2')]
"""The tokens of a call that is cut off."""


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("path", TOOLS)
async def test_a_call_that_is_cut_off_is_a_call(path: str, choice: str) -> None:
    engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([], "length")])
    given: Any = {"type": "any" if choice == "required" else choice} if path == MESSAGES else choice
    body = (await asked(engine, path, **TOOLS[path], tool_choice=given)).json()
    if path == CHAT:
        (one,) = body["choices"]
        (call,) = one["message"]["tool_calls"]
        assert (one["finish_reason"], one["message"]["content"]) == ("length", None)
        assert call["function"] == {"name": "f", "arguments": '{"a": 1, "b": [2'}
        assert len(call["id"]) == 9 and call["id"].isalnum()
    elif path == RESPONSES:
        (call,) = body["output"]
        assert (body["status"], call["status"]) == ("incomplete", "incomplete")
        assert (call["name"], call["arguments"]) == ("f", '{"a": 1, "b": [2')
    else:
        (block,) = body["content"]
        assert body["stop_reason"] == "max_tokens"
        assert (block["name"], block["input"]) == ("f", {"a": 1, "b": [2]})


@pytest.mark.parametrize(
    ("client", "cache", "whole"),
    [
        ("mistral-client-python/3.7.0", "", True),
        ("langchain4j-mistral-ai", "", True),
        ("ai-sdk/mistral/3.0.51 ai-sdk/provider-utils/4.0.40 runtime/bun/1.3.14", "", True),
        ("ai-sdk/openai/3.0.141 ai-sdk/provider-utils/4.0.66 runtime/bun/1.3.14", "", False),
        ("opencode/1.18.33 ai-sdk/provider-utils/4.0.40 runtime/bun/1.3.14", "", True),
        ("Semantic-Kernel", "", True),
        ("Semantic-Kernel OpenAI/2.2.0 (.NET 8.0.16; Ubuntu 24.04.2 LTS)", "", False),
        ("python-httpx/0.28.1", "no-store", True),
        ("python-httpx/0.28.1", "", False),
        ("OpenAI/Python 3.3.0", "no-store", False),
    ],
)
async def test_clients_that_fail_on_parts_of_calls_get_them_whole(
    client: str, cache: str, whole: bool
) -> None:
    engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([], "length")])
    headers = {"user-agent": client, "cache-control": cache}
    answer = await asked(engine, CHAT, headers=headers, stream=True, **TOOLS[CHAT])
    deltas = [event["choices"][0]["delta"] for event in events_of(answer.text)]
    functions = [call["function"] for d in deltas for call in d.get("tool_calls", [])]
    assert "".join(function["arguments"] for function in functions) == '{"a": 1, "b": [2'
    assert all("name" in function for function in functions) == whole
    assert (len(functions) == 1) == whole


async def test_mistrals_client_on_a_page_is_known_though_the_browser_names_itself() -> None:
    engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([], "length")])
    headers = {"user-agent": "Mozilla/5.0", "x-mistral-user-agent": "mistral-client-typescript/2"}
    answer = await asked(engine, CHAT, headers=headers, stream=True, **TOOLS[CHAT])
    assert answer.text.count('"tool_calls":[') == 1


async def test_opencode_gets_calls_in_pieces_of_providers_that_ask_for_usage() -> None:
    engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([], "length")])
    answer = await asked(
        engine,
        CHAT,
        headers={"user-agent": "opencode/1.18.33 ai-sdk/provider-utils/4.0.40"},
        stream=True,
        stream_options={"include_usage": True},
        **TOOLS[CHAT],
    )
    assert answer.text.count('"tool_calls":[') > 2


async def test_calls_of_a_request_without_tools_are_no_calls() -> None:
    engine = FakeLlm([Part([*CALL, EOS], "stop")])
    (one,) = (await asked(engine, CHAT)).json()["choices"]
    assert "tool_calls" not in one["message"]
    assert one["finish_reason"] == "stop"

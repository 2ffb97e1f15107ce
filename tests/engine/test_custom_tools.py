"""Custom tools of chat completions, from the request to the answer and back in its history."""

import json
from typing import Any

import pytest

from serving.mistral import InvalidRequest
from serving.requests import chat
from tests.engine import fake_llm, test_continuation
from tests.engine.asking import CHAT, asked, events_of
from tests.engine.fake_llm import EOS, FakeLlm, Part, control, ids
from tests.support.reading import READING

USER = {"role": "user", "content": "List the files."}
SHELL = {"type": "custom", "custom": {"name": "sh", "description": "x"}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALLED = [
    *(control("[TOOL_CALLS]"), *ids("sh"), control("[ARGS]"), *ids('{"input": "ls\\n-l"}')),
    *(control("[TOOL_CALLS]"), *ids("f"), control("[ARGS]"), *ids("{}")),
]


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the engines a context that has room for the tools."""
    monkeypatch.setattr(fake_llm, "CONTEXT_TOKENS", 1000)


def reading(**fields: Any) -> tuple[Any, chat.ChatOptions]:
    return chat.read(json.dumps({"messages": [USER], **fields}).encode(), *READING)


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        reading(**fields)
    return caught.value


def with_format(**grammar: str) -> dict[str, Any]:
    format = {"type": "grammar", "grammar": grammar}
    return {"type": "custom", "custom": {"name": "sh", "format": format}}


async def test_a_call_is_answered_as_a_custom_one() -> None:
    answer = await asked(FakeLlm([Part([*CALLED, EOS], "stop")]), CHAT, tools=[SHELL, FUNCTION])
    (choice,) = answer.json()["choices"]
    custom, function = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert custom == {
        "id": custom["id"],
        "type": "custom",
        "custom": {"name": "sh", "input": "ls\n-l"},
    }
    assert function["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize("headers", [{}, {"user-agent": "mistral-client-python/1.0"}])
async def test_a_streamed_call_adds_up_to_the_same(headers: dict[str, str]) -> None:
    parts = [Part([token]) for token in CALLED] + [Part([EOS], "stop")]
    tools = [SHELL, FUNCTION]
    answer = await asked(FakeLlm(parts), CHAT, headers=headers, tools=tools, stream=True)
    calls: list[dict[str, Any]] = [{}, {}]
    for event in events_of(answer.text):
        for delta in event["choices"][0]["delta"].get("tool_calls", ()):
            call = calls[delta["index"]]
            for kind, key in (("custom", "input"), ("function", "arguments")):
                if kind in delta:
                    call[key] = call.get(key, "") + delta[kind][key]
            call.update({name: delta[name] for name in ("type",) if name in delta})
    assert calls == [
        {"type": "custom", "input": "ls\n-l"},
        {"type": "function", "arguments": "{}"},
    ]


async def test_a_call_goes_on_at_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK's types of a stream have functions alone.
    monkeypatch.setattr(test_continuation, "read", lambda path, stream: None)
    parts = test_continuation.parts([*CALLED, EOS])
    assert '"custom":{' in await test_continuation.check(CHAT, parts, tools=[SHELL, FUNCTION])


@pytest.mark.parametrize("name", ["sh", "of_an_earlier_request"])
def test_calls_of_earlier_turns_are_read(name: str) -> None:
    call = {"id": "call_1", "type": "custom", "custom": {"name": name, "input": 'echo "é"'}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "é"}
    request, _ = reading(messages=[USER, turn, result], tools=[SHELL])
    (read,) = request.prompt.messages[1]["tool_calls"]
    assert (read["type"], read["function"]["name"]) == ("function", name)
    assert json.loads(read["function"]["arguments"]) == {"input": 'echo "é"'}
    assert request.prompt.messages[2]["tool_call_id"] == read["id"]


def test_a_custom_tool_can_be_chosen() -> None:
    choice = {"type": "custom", "custom": {"name": "sh"}}
    request, _ = reading(tools=[SHELL, FUNCTION], tool_choice=choice)
    assert [tool.name for tool in request.tools.callable] == ["sh"]
    assert request.tools.choice == "required"
    allowed = {"mode": "auto", "tools": [choice]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    request, options = reading(tools=[SHELL, FUNCTION], tool_choice=choice)
    assert [tool.name for tool in request.tools.callable] == ["sh"]
    assert options.custom_tools == {"sh"}


def test_a_regular_expression_holds_and_a_lark_grammar_is_described() -> None:
    request, _ = reading(tools=[with_format(syntax="regex", definition="^a+$")])
    (tool,) = request.tools.callable
    assert tool.strict and tool.parameters["properties"]["input"]["pattern"] == "^(?:a+)$"
    request, _ = reading(tools=[with_format(syntax="lark", definition='start: "a"')])
    (tool,) = request.tools.callable
    assert 'start: "a"' in tool.parameters["properties"]["input"]["description"]
    assert "Lark" in " ".join(request.normalised.warnings)


@pytest.mark.parametrize(
    ("custom", "place"),
    [
        (None, "tools[0]"),
        ({}, "tools[0].custom.name"),
        ({"name": "sh", "description": 5}, "tools[0].custom.description"),
        ({"name": "sh", "format": 5}, "tools[0].custom.format"),
        ({"name": "sh", "format": {"type": "xml"}}, "tools[0].custom.format"),
        (with_format(syntax="regex")["custom"], "tools[0].custom.format.definition"),
    ],
)
def test_a_broken_custom_tool_is_refused_by_its_place(custom: Any, place: str) -> None:
    error = refused(tools=[{"type": "custom", "custom": custom}])
    assert error.param == "tools" and error.message.startswith(place + " ")


@pytest.mark.parametrize("custom", [None, {"name": "sh"}, {"name": "sh", "input": 5}])
def test_a_broken_call_is_refused_by_its_place(custom: Any) -> None:
    turn = {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": custom}]}
    error = refused(messages=[USER, turn])
    assert "messages[1].tool_calls[0].custom" in error.message

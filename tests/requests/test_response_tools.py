from typing import Any

import pytest
from mistral_common.protocol.instruct.tool_calls import Tool

from serving.mistral.grammar import CallableTool
from serving.requests.request import Chat
from serving.requests.response_tools import ClientTool
from tests.requests.response_requests import (
    CUSTOM,
    FUNCTION,
    SPACE,
    USER,
    call,
    reading,
    refused,
    request,
)


def test_functions_are_tools() -> None:
    made = request(tools=[FUNCTION, {"type": "function", "name": "g", "strict": None}])
    assert isinstance(made.prompt, Chat)
    function = {key: value for key, value in FUNCTION.items() if key != "type"}
    assert made.prompt.tools == [
        {"type": "function", "function": function},
        {"type": "function", "function": {"name": "g", "strict": False}},
    ]
    for tool in made.prompt.tools:
        Tool.from_openai(tool)
    assert made.tools.callable == [
        CallableTool("f", FUNCTION["parameters"], True),
        CallableTool("g", None, False),
    ]
    assert (made.tools.choice, made.tools.parallel) == ("auto", True)


def test_a_custom_tool_is_a_function_with_one_text() -> None:
    made, options = reading(tools=[CUSTOM], parallel_tool_calls=False)
    (tool,) = made.tools.callable
    assert tool.strict and tool.parameters is not None
    assert list(tool.parameters["properties"]) == tool.parameters["required"] == ["input"]
    assert tool.parameters["properties"]["input"]["type"] == "string"
    assert options.tools == {"c": ClientTool("c", None, True)}
    assert made.tools.parallel is False


def test_a_regular_expression_limits_a_custom_tools_input() -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": "a|b"}
    (tool,) = request(tools=[{**CUSTOM, "format": grammar}]).tools.callable
    assert tool.parameters is not None
    assert tool.parameters["properties"]["input"]["pattern"] == "^(?:a|b)$"


def test_a_lark_grammar_is_described_to_the_model() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}
    (tool,) = request(tools=[{**CUSTOM, "format": grammar}]).tools.callable
    assert tool.parameters is not None
    text = tool.parameters["properties"]["input"]
    assert 'start: "a"' in text["description"] and "pattern" not in text


@pytest.mark.parametrize(
    ("format", "code"),
    [
        ({"type": "grammar", "syntax": "ebnf", "definition": "a"}, "unsupported_parameter"),
        ({"type": "json"}, "unsupported_parameter"),
        ({"type": "grammar", "syntax": "lark"}, "invalid_type"),
        ("lark", "invalid_type"),
    ],
)
def test_other_grammars_are_refused(format: Any, code: str) -> None:
    error = refused(tools=[{**CUSTOM, "format": format}])
    assert (error.param, error.code) == ("tools", code)


def test_tools_of_namespaces_become_functions() -> None:
    made, options = reading(tools=[FUNCTION, SPACE])
    assert [tool.name for tool in made.tools.callable] == ["f", "ns__f", "ns__d"]
    assert options.tools == {
        "ns__f": ClientTool("f", "ns", False),
        "ns__d": ClientTool("d", "ns", True),
    }


def test_long_names_of_namespaces_are_shortened_alike_everywhere() -> None:
    name = "n" * 60
    space = {"type": "namespace", "name": name, "tools": [{"type": "function", "name": "tool"}]}
    made, options = reading(tools=[space], input=[USER, call(name="tool", namespace=name), USER])
    assert isinstance(made.prompt, Chat)
    called = made.prompt.messages[1]["tool_calls"][0]["function"]["name"]
    assert len(called) <= 64 and called == made.tools.callable[0].name
    assert options.tools[called] == ClientTool("tool", name, False)


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        ("auto", ["f", "c", "ns__f", "ns__d"], "auto"),
        ("required", ["f", "c", "ns__f", "ns__d"], "required"),
        ("none", [], "none"),
        ({"type": "function", "name": "f"}, ["f"], "required"),
        ({"type": "custom", "name": "c"}, ["c"], "required"),
        ({"type": "function", "name": "ns__f"}, ["ns__f"], "required"),
        ({"type": "custom", "name": "d"}, ["ns__d"], "required"),
    ],
)
def test_choices(choice: Any, names: list[str], expected: str) -> None:
    made, options = reading(tools=[FUNCTION, CUSTOM, SPACE], tool_choice=choice)
    assert [tool.name for tool in made.tools.callable] == names
    assert made.tools.choice == expected
    assert options.echoed["tool_choice"] == choice


def test_an_ambiguous_choice_is_refused() -> None:
    spaces = [SPACE, {**SPACE, "name": "other"}]
    choice = {"type": "function", "name": "f"}
    assert "namespace" in refused(tools=spaces, tool_choice=choice).message

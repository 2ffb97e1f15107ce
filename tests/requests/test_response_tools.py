import json
from typing import Any

import llguidance
import pytest
from mistral_common.protocol.instruct.tool_calls import Tool

from serving.mistral.grammar import CallableTool
from serving.requests.request import Chat
from serving.requests.response_tools import ClientTool
from tests.mistral.test_grammar import TOKENIZER, vocabulary
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


@pytest.mark.parametrize(
    ("definition", "inputs", "others"),
    [
        ("a|b", ["a", "b"], ["ab", "xa", "a\n"]),
        ("^(yes|no)$", ["yes", "no"], ["yesno", "^yes$"]),
        ("^a", ["a"], ["ab"]),
        ("^a$|^b$", ["a", "b"], ["ab"]),
        (r"^\^a\$", ["^a$"], ["^a", "a"]),
        (r"^a\\$", ["a\\"], ["a"]),
        (r"[|$^]|[]$]", ["|", "$", "^", "]"], ["[", ""]),
        ("", [""], ["a"]),
    ],
)
def test_a_regular_expression_limits_a_custom_tools_input(
    definition: str, inputs: list[str], others: list[str]
) -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": definition}
    (tool,) = request(tools=[{**CUSTOM, "format": grammar}]).tools.callable
    assert tool.parameters is not None
    schema = llguidance.LLMatcher.grammar_from_json_schema(dict(tool.parameters))
    for text in (*inputs, *others):
        matcher = llguidance.LLMatcher(vocabulary(), schema)
        assert not matcher.is_error(), matcher.get_error()
        ids = TOKENIZER.encode(json.dumps({"input": text}), False, False)
        accepted = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
        assert accepted == (text in inputs)


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
        ("none", [], "auto"),
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


def named(name: str, kind: str = "function", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, **fields}


@pytest.mark.parametrize("begins", [True, False])
def test_a_tool_that_is_named_as_one_of_a_namespace_is_another(begins: bool) -> None:
    space = {"type": "namespace", "name": "a", "tools": [named("b", description="Theirs.")]}
    plain = named("a__b", description="Ours.", parameters={"type": "object"}, strict=True)
    tools = [plain, space] if begins else [space, plain]
    calls = [
        call("aaaaaaaaa", name="b", namespace="a"),
        call("bbbbbbbbb", name="a__b"),
        {"type": "custom_tool_call", "call_id": "ccccccccc", "name": "old", "input": ""},
    ]
    made, options = reading(tools=tools, input=[USER, *calls, USER])
    assert isinstance(made.prompt, Chat)
    names = {
        tool["function"]["description"]: tool["function"]["name"] for tool in made.prompt.tools
    }
    assert names["Ours."] == "a__b" != names["Theirs."]
    assert options.tools == {names["Theirs."]: ClientTool("b", "a", False)}
    assert {tool.name: tool.strict for tool in made.tools.callable} == {
        names["Ours."]: True,
        names["Theirs."]: False,
    }
    earlier = [one["function"]["name"] for one in made.prompt.messages[1]["tool_calls"]]
    assert earlier == [names["Theirs."], "a__b", "old"]
    chosen = request(tools=tools, tool_choice=named("a__b")).tools.callable
    assert [tool.name for tool in chosen] == ["a__b"]


def test_namespaces_whose_tools_have_one_name_together_are_told_apart() -> None:
    spaces = [
        {"type": "namespace", "name": "a", "tools": [named("b__c")]},
        {"type": "namespace", "name": "a__b", "tools": [named("c")]},
    ]
    _, options = reading(tools=spaces)
    assert set(options.tools.values()) == {ClientTool("b__c", "a"), ClientTool("c", "a__b")}
    assert options.tools == reading(tools=spaces[::-1])[1].tools, "the prompts stay cached"


@pytest.mark.parametrize(
    "tools",
    [
        [named("z"), named("z", "custom")],
        [named("z"), named("z", strict=True)],
        [{**SPACE, "tools": [named("z")]}, {**SPACE, "tools": [named("z", "custom")]}],
    ],
)
def test_tools_that_no_call_would_tell_apart_are_refused(tools: list[Any]) -> None:
    error = refused(tools=tools)
    assert (error.param, error.code) == ("tools", "invalid_value") and 'z"' in error.message


def test_a_tool_that_is_sent_twice_is_no_fault() -> None:
    assert [tool.name for tool in request(tools=[FUNCTION, FUNCTION]).tools.callable] == ["f", "f"]

import copy
import json
from typing import Any

import pytest
from llguidance import LLMatcher

from serving.mistral import InvalidRequest
from tests.mistral.test_options import CHAT, MESSAGES, RESPONSES, normalised
from tests.mistral.tokenizers import rules

ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "a definition": {
        "$defs": {"Address": ADDRESS},
        "type": "object",
        "properties": {"address": {"$ref": "#/$defs/Address"}},
    },
    "a definition of the former name": {
        "definitions": {"Address": ADDRESS},
        "type": "object",
        "properties": {"address": {"$ref": "#/definitions/Address"}},
    },
    "recursion": {
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
            }
        },
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/Node"}},
    },
    "recursion to the root": {"type": "object", "properties": {"next": {"$ref": "#"}}},
}


def error_of_all_calls(parameters: list[dict[str, Any]]) -> str:
    """Returns what is wrong with the schema that vLLM makes of all tools for tokenizer v7."""
    calls = [
        {"properties": {"name": {"enum": [f"f{index}"]}, "arguments": schema}}
        for index, schema in enumerate(parameters)
    ]
    schema = {"type": "array", "items": {"type": "object", "anyOf": calls}}
    return str(LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(json.dumps(schema))))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_references_are_found_within_each_tool(kind: str) -> None:
    given = [copy.deepcopy(SCHEMAS[kind]) for _ in range(2)]
    tools = [
        {"type": "function", "function": {"name": f"f{index}", "parameters": schema}}
        for index, schema in enumerate(given)
    ]
    body, _ = normalised(CHAT, rules("v7", other_server=True), tools=tools, tool_choice="required")
    sent = [tool["function"]["parameters"] for tool in body["tools"]]
    assert error_of_all_calls(sent) == ""
    assert [{**SCHEMAS[kind], "$id": schema["$id"]} for schema in sent] == sent
    assert len({schema["$id"] for schema in sent}) == 2


def test_without_an_id_a_definition_is_not_found() -> None:
    assert "does not exist" in error_of_all_calls([SCHEMAS["a definition"]])


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "f"}])
def test_anthropics_schemas_too(choice: dict[str, Any]) -> None:
    tool = {"name": "f", "input_schema": copy.deepcopy(SCHEMAS["recursion"])}
    body, _ = normalised(MESSAGES, rules("v7", other_server=True), tools=[tool], tool_choice=choice)
    assert error_of_all_calls([body["tools"][0]["input_schema"]]) == ""


@pytest.mark.parametrize(
    ("version", "choice", "schema"),
    [
        ("v7", "required", ADDRESS),
        ("v7", "required", {**SCHEMAS["recursion"], "$id": "https://example.com/node"}),
        ("v7", "auto", SCHEMAS["recursion"]),
        ("v11", "required", SCHEMAS["recursion"]),
    ],
)
def test_a_schema_that_needs_no_id_stays(version: str, choice: str, schema: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    before = copy.deepcopy(tool)
    _, done = normalised(CHAT, rules(version), tools=[tool], tool_choice=choice)
    assert (tool, done.changed) == (before, False)


def test_a_lark_grammar_is_warned_of_wherever_it_stands() -> None:
    formats = {"text": False, "regex": False, "lark": True}
    for syntax, warns in formats.items():
        format = {"type": "grammar", "syntax": syntax, "definition": "a"}
        tool = {"type": "custom", "name": "f", "format": format}
        for tools in ([tool], [{"type": "namespace", "name": "n", "tools": [tool]}]):
            _, done = normalised(RESPONSES, tools=tools)
            assert bool(done.warnings) is warns and not done.changed


INPUTS: list[Any] = [
    (
        CHAT,
        "tools[0].function.parameters",
        lambda schema: {"type": "function", "function": {"name": "f", "parameters": schema}},
    ),
    (
        RESPONSES,
        "tools[0].parameters",
        lambda schema: {"type": "function", "name": "f", "parameters": schema},
    ),
    (
        RESPONSES,
        "tools[0].tools[0].parameters",
        lambda schema: {
            "type": "namespace",
            "name": "n",
            "tools": [{"type": "function", "name": "f", "parameters": schema}],
        },
    ),
    ("/v1/messages", "tools[0].input_schema", lambda schema: {"name": "f", "input_schema": schema}),
]
"""Each API's tools: its path, where the schema stands, and the tool with that schema."""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "integer"}},
        {"type": "string"},
        {"type": "integer"},
        {"type": ["string", "null"]},
    ],
)
@pytest.mark.parametrize(("endpoint", "path", "tool"), INPUTS)
def test_the_input_of_a_tool_is_an_object(endpoint: str, path: str, tool: Any, schema: Any) -> None:
    with pytest.raises(InvalidRequest, match='"object"') as raised:
        normalised(endpoint, tools=[tool(schema)])
    assert raised.value.param == path and path in raised.value.message
    assert json.dumps(schema["type"]).split('"')[1] in raised.value.message


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"type": None},
        {"type": "any"},
        {"type": ["object", "null"]},
        {"type": []},
        {"properties": {"a": {"type": "string"}}},
        {"anyOf": [{"type": "object"}, {"type": "null"}]},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}},
        {"type": "object", "properties": {"a": {"type": "string", "required": True}}},
        True,
    ],
)
@pytest.mark.parametrize(("endpoint", "path", "tool"), INPUTS)
def test_what_may_be_an_object_stays_an_input(
    endpoint: str, path: str, tool: Any, schema: Any
) -> None:
    normalised(endpoint, tools=[tool(schema)])


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
@pytest.mark.parametrize("strict", [None, False, True])
def test_texts_of_tools_have_no_limits_that_llama_cpp_refuses(
    path: str, strict: bool | None
) -> None:
    texts = {
        "not blank": {"type": "string", "pattern": r"\S"},
        "a beginning": {"type": "string", "pattern": "^https://"},
        "digits": {"type": "string", "pattern": r"^\d+$"},
        "zod's e-mail": {"type": "string", "pattern": r"^(?!\.)[a-z]+@[a-z]+$"},
        "alternatives": {"type": "string", "pattern": "^a$|^b$"},
        "long": {"type": "string", "maxLength": 10_000, "minLength": 1},
        "read": {"type": "string", "pattern": "^(a|[^b])+[0-9]{2}$", "maxLength": 100},
    }
    schema = {
        "type": "object",
        "properties": {
            **texts,
            "pattern": {"type": "array", "items": {"anyOf": [{"pattern": "x"}, {"type": "null"}]}},
        },
    }
    relaxed = {name: {"type": "string"} for name in texts} | {
        "long": {"type": "string", "minLength": 1},
        "read": texts["read"],
        "pattern": {"type": "array", "items": {"anyOf": [{}, {"type": "null"}]}},
    }
    for other_server in (True, False):
        function: dict[str, Any] = {"name": "f", "strict": strict}
        inputs = copy.deepcopy(schema)
        tools: list[dict[str, Any]] = {
            CHAT: [{"type": "function", "function": function | {"parameters": inputs}}],
            RESPONSES: [{"type": "function", **function, "parameters": inputs}],
            MESSAGES: [{**function, "input_schema": inputs}],
        }[path]
        normalised(path, rules("v13", other_server=other_server), tools=tools)
        stays = strict or not other_server
        assert inputs["properties"] == (schema["properties"] if stays else relaxed)

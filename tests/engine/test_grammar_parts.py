"""Schemas of which llguidance does not know all, through the engine's front end."""

import json
from typing import Any

import pytest

from tests.engine.asking import CHAT, COMPLETIONS, MESSAGES, RESPONSES, asked
from tests.engine.fake_llm import FakeLlm
from tests.engine.tools import PARAMETERS, roomy, tools_with

EMAIL = (
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]"
    r"@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
)
"""The expression of zod's email addresses."""
UNKNOWN = [EMAIL, r"^(a)\1$", r"\ba", r"^{.*}$"]
REQUIRED: dict[str, Any] = {CHAT: "required", RESPONSES: "required", MESSAGES: {"type": "any"}}
LOOK = {"type": "string", "pattern": EMAIL}


def expression(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


async def grammar_of(path: str, schema: dict[str, Any], **fields: Any) -> str:
    engine = roomy()
    tools = tools_with(path, schema, **fields)
    response = await asked(engine, path, tools=tools, tool_choice=REQUIRED[path])
    assert response.status_code == 200, response.text
    grammar: str = engine.calls[0].params.structured_outputs.grammar
    return grammar


@pytest.mark.parametrize("pattern", UNKNOWN)
@pytest.mark.parametrize("path", PARAMETERS)
async def test_an_unknown_expression_is_left_out_where_a_call_is_required(
    path: str, pattern: str
) -> None:
    schema = {
        "type": "object",
        "properties": {"a": expression(pattern), "b": expression("^b+$")},
        "required": ["a"],
    }
    grammar = await grammar_of(path, schema)
    assert json.dumps(pattern) not in grammar
    assert '"^b+$"' in grammar and '"required": ["a"]' in grammar


async def test_properties_of_an_unknown_expression_stay_possible() -> None:
    schema = {
        "type": "object",
        "patternProperties": {"(?!a)b": {}, "c": {}},
        "additionalProperties": False,
        "properties": {"d": {"type": "integer"}},
    }
    grammar = await grammar_of(CHAT, schema)
    assert "additionalProperties" not in grammar and '"d": {"type": "integer"}' in grammar


async def test_what_is_not_known_at_all_may_be_any_object() -> None:
    assert "nowhere" not in await grammar_of(CHAT, {"$ref": "#/nowhere"})


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_strict_tool_that_cannot_be_enforced_is_named(path: str, choice: str) -> None:
    tools = tools_with(path, LOOK, strict=True)
    error = (await asked(roomy(), path, tools=tools, tool_choice=choice)).json()["error"]
    assert (error["param"], error["code"]) == (PARAMETERS[path], "invalid_constraint")
    assert error["message"].startswith(f"{PARAMETERS[path]} cannot be used: look-around")


@pytest.mark.parametrize("path", PARAMETERS)
async def test_a_constant_that_would_be_rounded_is_left_out_where_a_call_is_required(
    path: str,
) -> None:
    schema = {"type": "integer", "enum": [2**53 + 1, 1]}
    grammar = await grammar_of(path, schema)
    assert '"x": {"type": "integer"}' in grammar


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_constant_of_a_strict_tool_that_would_be_rounded_is_named(path: str) -> None:
    tools = tools_with(path, {"const": 2**53 + 1}, strict=True)
    error = (await asked(roomy(), path, tools=tools)).json()["error"]
    assert (error["param"], error["code"]) == (PARAMETERS[path], "invalid_constraint")
    assert error["message"].startswith(f"{PARAMETERS[path]} cannot be used: properties.x.const")


async def test_the_expression_of_a_custom_tool_is_named() -> None:
    format = {"type": "grammar", "syntax": "regex", "definition": "(?!a)b"}
    tool = {"type": "custom", "name": "c", "format": format}
    error = (await asked(roomy(), RESPONSES, tools=[tool])).json()["error"]
    assert error["param"] == "tools[0].format" and "look-around" in error["message"]


@pytest.mark.parametrize("with_tools", [False, True])
@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        (
            CHAT,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": LOOK, "strict": True},
                }
            },
            "response_format",
        ),
        (CHAT, {"structured_outputs": {"regex": "(?!a)b"}}, "structured_outputs"),
        (
            RESPONSES,
            {
                "text": {
                    "format": {"type": "json_schema", "name": "a", "schema": LOOK, "strict": True}
                }
            },
            "text.format",
        ),
        (
            MESSAGES,
            {"output_config": {"format": {"type": "json_schema", "schema": LOOK}}},
            "output_config.format",
        ),
    ],
)
async def test_a_form_that_cannot_be_enforced_is_named(
    path: str, fields: dict[str, Any], field: str, with_tools: bool
) -> None:
    tools = tools_with(path, {"type": "string"}) if with_tools else []
    response = await asked(roomy(), path, **fields, tools=tools)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(f"{field} cannot be used: look-around")


def lenient_form(path: str, schema: dict[str, Any]) -> dict[str, Any]:
    form = {"name": "a", "schema": schema}
    if path == RESPONSES:
        return {"text": {"format": {"type": "json_schema", **form}}}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


@pytest.mark.parametrize("with_tools", [False, True])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
async def test_an_unknown_expression_of_a_lenient_form_is_left_out(
    path: str, with_tools: bool
) -> None:
    properties = {"a": LOOK, "b": expression("^b+$")}
    form = lenient_form(path, {"properties": properties, "required": ["a"]})
    tools = tools_with(path, {"type": "string"}) if with_tools and path != COMPLETIONS else []
    engine = roomy()
    response = await asked(engine, path, **form, tools=tools)
    assert response.status_code == 200, response.text
    constraint = engine.calls[0].params.structured_outputs
    grammar = constraint.json or constraint.grammar
    assert "(?!" not in grammar
    assert '"pattern": "^b+$"' in grammar and '"required": ["a"]' in grammar


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_lenient_form_that_no_answer_can_have_is_named(path: str) -> None:
    response = await asked(roomy(), path, **lenient_form(path, {"$ref": "#/nowhere"}))
    error = response.json()["error"]
    assert error["code"] == "invalid_constraint" and "/nowhere" in error["message"]


async def test_a_form_that_a_required_call_replaces_is_no_fault() -> None:
    form = {"type": "json_schema", "json_schema": {"schema": LOOK}}
    tools = tools_with(CHAT, LOOK)
    engine: FakeLlm = roomy()
    response = await asked(engine, CHAT, tools=tools, tool_choice="required", response_format=form)
    assert response.status_code == 200

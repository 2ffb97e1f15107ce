"""Tools that are wrong, or of another draft or dialect of JSON Schema."""

import json
from typing import Any

import pytest

from tests.engine.asking import CHAT, MESSAGES, OPENAI, RESPONSES, asked
from tests.engine.fake_llm import FakeLlm
from tests.engine.tools import PARAMETERS, roomy, tools_with

FOREIGN: list[dict[str, Any]] = [
    {"type": "string", "pattern": r"^\p{L}{1,3}$"},
    {"type": "string", "pattern": r"^(?<y>\d{4})$"},
    {"type": "object", "patternProperties": {r"^\p{L}$": {"type": "string"}}},
    {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
    {"type": "boolean", "description": None},
    {"type": "array", "items": None},
]


@pytest.mark.parametrize("schema", FOREIGN)
@pytest.mark.parametrize("path", PARAMETERS)
async def test_a_schema_of_another_draft_or_dialect_ends_no_request(
    path: str, schema: dict[str, Any]
) -> None:
    engine = roomy()
    response = await asked(engine, path, tools=tools_with(path, schema))
    assert response.status_code == 200, response.text
    (chat,) = engine.renderer.chats
    shown = json.dumps(chat.chat_template_kwargs["tools"][1])
    expressions = [schema.get("pattern"), *schema.get("patternProperties", ())]
    assert all(json.dumps(one)[1:-1] in shown for one in expressions if one is not None)


@pytest.mark.parametrize("schema", FOREIGN)
async def test_a_strict_schema_of_another_dialect_is_enforced(schema: dict[str, Any]) -> None:
    engine = roomy()
    response = await asked(engine, CHAT, tools=tools_with(CHAT, schema, strict=True))
    assert response.status_code == 200, response.text
    grammar = engine.calls[0].params.structured_outputs.grammar
    assert "x-pattern" not in grammar
    if "pattern" in schema:
        assert json.dumps(schema["pattern"]) in grammar


@pytest.mark.parametrize("path", PARAMETERS)
async def test_a_schema_that_is_wrong_in_every_draft_is_named(path: str) -> None:
    tools = tools_with(path, {"type": "objekt"})
    response = await asked(FakeLlm(), path, tools=tools)
    assert response.status_code == 400
    error = response.json()["error"]
    assert f"{PARAMETERS[path]}.properties.x.type" in error["message"]
    assert "'objekt'" in error["message"]
    if path in OPENAI:
        assert (error["param"], error["code"]) == (PARAMETERS[path], "invalid_value")


@pytest.mark.parametrize("name", ["a.b", "a b", "é", "", "é" * 129])
@pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
async def test_a_wrong_name_of_a_tool_is_told_with_what_the_api_takes(path: str, name: str) -> None:
    schema = {"type": "object"}
    tool: Any = {"name": name, "input_schema": schema}
    if path == RESPONSES:
        tool = {"type": "function", "name": name, "parameters": schema}
    engine = FakeLlm()
    response = await asked(engine, path, tools=[tool])
    assert response.status_code == 400 and not engine.calls
    message = response.json()["error"]["message"]
    if path == RESPONSES and not name:
        assert message == "tools[0].name must be a string."
    else:
        assert message == (
            "tools[0].name must be a string of 1 to 128 letters, digits, underscores and dashes."
        )

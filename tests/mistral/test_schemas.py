"""Schemas of older drafts, and those with nulls for what a client leaves out."""

import copy
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from tests.mistral.test_options import CHAT, MESSAGES, RESPONSES, normalised

MENDED: list[tuple[Any, Any]] = [
    ({"minimum": 0, "exclusiveMinimum": True}, {"exclusiveMinimum": 0}),
    ({"maximum": 9, "exclusiveMaximum": True}, {"exclusiveMaximum": 9}),
    ({"minimum": 0, "exclusiveMinimum": False}, {"minimum": 0}),
    ({"exclusiveMinimum": True}, {}),
    ({"type": "boolean", "description": None}, {"type": "boolean"}),
    ({"type": "array", "items": None}, {"type": "array"}),
    ({"anyOf": [{"type": "null", "title": None}]}, {"anyOf": [{"type": "null"}]}),
    ({"not": {"enum": None}, "items": [{"pattern": None}]}, {"not": {}, "items": [{}]}),
    ({"type": "any"}, {}),
    (
        {"properties": {"a": {"required": True}, "b": {"required": False}}, "required": ["c"]},
        {"properties": {"a": {}, "b": {}}, "required": ["c", "a"]},
    ),
]
UNCHANGED: list[Any] = [
    {"default": None, "const": None, "enum": [None, 1]},
    {"properties": {"exclusiveMinimum": True, "type": {"type": "string"}}},
    {"exclusiveMinimum": 0, "minimum": 1, "required": ["a"]},
]


def around(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": copy.deepcopy(schema)}}


def tools_of(schema: Any) -> list[tuple[str, Any]]:
    """Returns the fields of each API that have such a schema."""
    flat = {"type": "function", "name": "f", "parameters": around(schema)}
    space = {"type": "namespace", "name": "n", "tools": [{**flat, "parameters": around(schema)}]}
    return [
        (CHAT, {"tools": [{"type": "function", "function": {"parameters": around(schema)}}]}),
        (
            CHAT,
            {"response_format": {"type": "json_schema", "json_schema": {"schema": around(schema)}}},
        ),
        (CHAT, {"structured_outputs": {"json": around(schema)}}),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": around(schema)}]}),
        (
            MESSAGES,
            {"output_config": {"format": {"type": "json_schema", "schema": around(schema)}}},
        ),
        (RESPONSES, {"tools": [flat, space]}),
        (RESPONSES, {"text": {"format": {"type": "json_schema", "schema": around(schema)}}}),
    ]


@pytest.mark.parametrize(("given", "mended"), MENDED)
def test_what_older_drafts_allow_is_mended_wherever_it_stands(given: Any, mended: Any) -> None:
    for (path, fields), (_, expected) in zip(tools_of(given), tools_of(mended), strict=True):
        body, done = normalised(path, **fields)
        assert {name: body[name] for name in fields} == expected and done.changed
    Draft7Validator.check_schema(mended)


@pytest.mark.parametrize("schema", UNCHANGED)
def test_a_schema_that_needs_no_mending_stays(schema: Any) -> None:
    for path, fields in tools_of(schema):
        body, done = normalised(path, **copy.deepcopy(fields))
        assert {name: body[name] for name in fields} == fields and not done.changed


def test_a_schema_that_nests_deeply_is_read() -> None:
    schema: dict[str, Any] = {"description": None}
    for _ in range(5000):
        schema = {"items": schema}
    _, done = normalised(MESSAGES, tools=[{"name": "f", "input_schema": schema}])
    assert done.changed

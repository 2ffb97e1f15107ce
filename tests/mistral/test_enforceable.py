"""Schemas as llguidance enforces them."""

from typing import Any

import pytest

from serving.mistral.enforceable import enforceable
from serving.mistral.expressions import texts_of
from serving.mistral.grammar import CallableTool
from tests.mistral.test_grammar import allows

DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("^x_a$", ["x_a"]),
        ("^(ab?|c)$", ["a", "ab", "c"]),
        ("^a$|^b$", ["a", "b"]),
        (r"^[a-c\d]$", [*"abc0123456789"]),
        ("^(?:a|b){1,2}?$", ["a", "b", "aa", "ab", "ba", "bb"]),
        ("^$", [""]),
        ("^a|b$", None),
        ("a", None),
        ("^a+$", None),
        ("^(?i:a)$", None),
        ("(?i)^a$", None),
        ("^[^a]$", None),
        (r"^\w$", None),
        ("^$a$", None),
        ("^[0-9]{3}$", None),
        ("^(((((a?){99}){99}){99}){99}){99}$", None),
        ("^(a$", None),
    ],
)
def test_texts_of_an_expression(expression: str, texts: list[str] | None) -> None:
    assert texts_of(expression) == texts


@pytest.mark.parametrize("strict", [True, False])
def test_arguments_of_a_call_end_where_no_key_is_left(strict: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"a": DIGIT},
        "required": ["a"],
        "patternProperties": {"^[ab]$": {"type": "integer", "maximum": 5}},
        "minProperties": 2,
        "additionalProperties": False,
    }
    tools = [CallableTool("f", schema, strict)]

    def allowed(arguments: str) -> bool:
        return allows(f"[TOOL_CALLS]f[ARGS]{arguments}", tools=tools, choice="required")

    assert allowed('{"a": 3, "b": 4}')
    for arguments in ('{"a": 3}', '{"a": 3, "b": 4, "b": 4}', '{"a": 6, "b": 4}'):
        assert not allowed(arguments)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": DIGIT}},
        {"type": "object", "patternProperties": {"^x-": {}}},
        {"type": "object", "patternProperties": {"^[ab]$": {}}, "minProperties": 2},
        {"type": "object", "patternProperties": {"^[ab]$": {}}, "maxProperties": 1},
        {"type": "object", "patternProperties": 5},
        {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**63},
    ],
)
def test_other_schemas_stay(schema: dict[str, Any]) -> None:
    assert enforceable(schema) == schema

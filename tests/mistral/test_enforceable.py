"""Schemas as llguidance enforces them."""

from typing import Any

import pytest

from serving.mistral.enforceable import enforceable


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}},
        {"type": "number", "minimum": 0.5, "maximum": True},
        {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**63},
        {"enum": [2**53, 2**53 + 2, 2**60, 2**63 - 1, 1e30, 0.1, True, "9007199254740993"]},
        {"properties": {"const": {"type": "string"}}, "default": 2**53 + 1},
    ],
)
def test_other_schemas_stay(schema: dict[str, Any]) -> None:
    assert enforceable(schema) == schema


@pytest.mark.parametrize(
    ("sent", "enforced"),
    [
        ({"minLength": 2.0, "maxItems": 3.0}, {"minLength": 2, "maxItems": 3}),
        ({"maxItems": 2**31 - 1, "maxLength": 2**31 - 1}, {"maxLength": 2**31 - 1}),
        ({"minLength": 1, "maxLength": 2**63 - 1}, {"minLength": 1}),
        ({"maximum": 1.7976931348623157e308}, {"maximum": 2**63 - 1024}),
        ({"exclusiveMinimum": -1e19}, {"minimum": -(2**63) + 1024}),
        ({"minimum": 1, "exclusiveMinimum": -1e19}, {"minimum": 1}),
        (
            {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
            {"type": "integer", "minimum": -(2**63) + 1024, "maximum": 2**63 - 1024},
        ),
        ({"$ref": "#/$defs/List[int]"}, {"$ref": "#/$defs/List%5Bint%5D"}),
        ({"$ref": "#/$defs/Größe#1"}, {"$ref": "#/$defs/Gr%C3%B6%C3%9Fe%231"}),
        ({"$ref": "#/$defs/100%"}, {"$ref": "#/$defs/100%25"}),
        ({"$ref": "#/$defs/A%3CB%3E<C>"}, {"$ref": "#/$defs/A%3CB%3E%3CC%3E"}),
    ],
)
def test_what_llguidance_cannot_take(sent: dict[str, Any], enforced: dict[str, Any]) -> None:
    assert enforceable({"items": sent}) == {"items": enforced}


@pytest.mark.parametrize("name", ["A", "a~1b", "%C3%A9", "!$&'()*+,;=:@/?-._~"])
def test_other_references_stay(name: str) -> None:
    schema = {"$ref": f"#/$defs/{name}"}
    assert enforceable(schema) is schema


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63 - 2, 2**63, 2**100, -(2**63)])
def test_constants_that_would_be_rounded_are_left_out(number: int) -> None:
    for constants in ({"const": {"id": number}}, {"enum": [1, number]}):
        schema = {"type": "object", "properties": {"a": constants | {"title": "A"}}}
        assert enforceable(schema) == {
            "type": "object",
            "properties": {"a": {"title": "A"}},
        }

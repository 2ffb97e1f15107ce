"""Numbers of schemas as llguidance enforces them."""

from typing import Any

import pytest

from serving.mistral.exact_numbers import with_exact_numbers


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
    assert with_exact_numbers(schema) == schema


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63 - 2, 2**63, 2**100, -(2**63)])
def test_constants_that_would_be_rounded_are_left_out(number: int) -> None:
    for constants in ({"const": {"id": number}}, {"enum": [1, number]}):
        schema = {"type": "object", "properties": {"a": constants | {"title": "A"}}}
        assert with_exact_numbers(schema) == {
            "type": "object",
            "properties": {"a": {"title": "A"}},
        }

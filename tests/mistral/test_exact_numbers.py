"""Bounds of numbers as llguidance enforces them."""

from typing import Any

import pytest

from serving.mistral.exact_bounds import with_exact_bounds


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}},
        {"type": "number", "minimum": 0.5, "maximum": True},
        {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**63},
    ],
)
def test_other_schemas_stay(schema: dict[str, Any]) -> None:
    assert with_exact_bounds(schema) == schema

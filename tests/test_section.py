"""The errors in a section of YAML."""

import pytest
from pydantic import Field, ValidationError, model_validator

from serving.section import Section, explain, wrong


class Leaf(Section):
    size: int = Field(ge=1, default=1)

    @model_validator(mode="after")
    def _not_thirteen(self) -> "Leaf":
        if self.size == 13:
            raise wrong("size", "not {13}")
        return self


class Tree(Section):
    name: str
    leaf: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({}, "name", "Field required"),
        ({"nam": 1, "name": "x"}, "nam", "unknown field; allowed are: name, leaf, leaves, by_name"),
        ({"name": "x", "leaf": {"s": 1}}, "leaf.s", "unknown field; allowed are: size"),
        ({"name": "x", "leaves": [{"s": 1}]}, "leaves.0.s", "unknown field; allowed are: size"),
        ({"name": "x", "by_name": {"a": {"s": 1}}}, "by_name.a.s", "unknown field; allowed are"),
        ({"name": "x", "leaf": {"size": 0}}, "leaf.size", "equal to 1 (got 0)"),
        ({"name": "x", "leaf": {"size": 13}}, "leaf.size", "not {13}"),
        ([], "", "valid dictionary"),
    ],
)
def test_field_and_what_is_allowed(document: object, field: str, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Tree.model_validate(document)
    ((place, says),) = explain(raised.value, Tree)
    assert place == field
    assert message in says

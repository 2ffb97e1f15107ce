"""The errors in a section of YAML."""

import re

import pytest
from pydantic import Field, ValidationError, model_validator

from serving.section import NotYamlError, Section, explain, parse_yaml, set_field, wrong


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
        ([], "", "Input should be a mapping (got [])"),
        ({"name": "x", "leaves": {}}, "leaves", "Input should be a list (got {})"),
        ({"name": "x", "by_name": None}, "by_name", "Input should be a mapping (got nothing)"),
        ({"name": "x", "leaf": {"size": True}}, "leaf.size", "be a number (got true)"),
        ({"name": ""}, "name", "an empty text says nothing"),
    ],
)
def test_field_and_what_is_allowed(document: object, field: str, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Tree.model_validate(document)
    ((place, says),) = explain(raised.value, Tree)
    assert place == field
    assert message in says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port: 1\nhost: a\nport: 2\n", "line 3: port stands twice, first in line 1"),
        ("a:\n- b: 1\n  'b': 1\n", "line 3: b stands twice, first in line 2"),
        ("{a: 1, a: 1}", "line 1: a stands twice, first in line 1"),
        ("a: &x {b: 1}\nc: *x\nd: {e: 1, e: 2}", "line 3: e stands twice, first in line 3"),
        ("<<: {a: 1}\n<<: {b: 1}\n", "line 2: << stands twice, first in line 1"),
        ("[" * 5000 + "]" * 5000, "nested too deep"),
        ("\n".join(" " * depth + "a:" for depth in range(1500)), "nested too deep"),
        ("a: 2025-13-45", "quote values that look like dates"),
        ("a: [", "expected the node content"),
    ],
)
def test_text_that_has_no_single_meaning_is_refused(text: str, says: str) -> None:
    with pytest.raises(NotYamlError, match=f"(?s)^not YAML.*{re.escape(says)}"):
        parse_yaml(text)


def test_a_key_of_ones_own_replaces_one_that_is_merged_in() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: [*b, *a], y: 4}\n'1': 1\n1: 1"
    assert parse_yaml(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 3, "y": 4},
        "1": 1,
        1: 1,
    }


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "[" * 5000, "a: b: c"])
def test_a_value_that_is_not_yaml_is_text(text: str) -> None:
    document: dict[str, object] = {}
    set_field(f"a={text}", document)
    assert document == {"a": text}

"""The rules in CEL that a custom resource's schema carries (`x-kubernetes-validations`)."""

import functools
from collections.abc import Iterator
from typing import Any

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

from tests.cluster.errors import Cause, invalid_value
from tests.cluster.fields import child
from tests.cluster.schemas import Schema, resolve

# CEL keeps these words for itself; Kubernetes spells fields of that name with underscores.
_RESERVED = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for"),
        *("function", "if", "import", "let", "loop", "package", "namespace", "return", "var"),
        *("void", "while"),
    )
)


def _split(text: celtypes.StringType, separator: celtypes.StringType) -> celtypes.ListType:
    return celtypes.ListType([celtypes.StringType(part) for part in text.split(separator)])


@functools.cache
def program(rule: str) -> Any:
    """The rule, ready to evaluate."""
    environment = celpy.Environment()
    return environment.program(environment.compile(rule), functions={"split": _split})


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            f"__{name}__" if name in _RESERVED else name: _escaped(inner)
            for name, inner in value.items()
        }
    return [_escaped(inner) for inner in value] if isinstance(value, list) else value


def violations(schema: Schema, value: Any, old: Any = None, path: str = "") -> Iterator[Cause]:
    """The rules that `value` breaks. `old` is what it replaces: rules on changes need it."""
    schema = resolve(schema)
    for rule in schema.get("x-kubernetes-validations", ()):
        changes = "oldSelf" in rule["rule"]
        if changes and old is None:
            continue
        names = {"self": value, "oldSelf": old} if changes else {"self": value}
        activation = {name: json_to_cel(_escaped(each)) for name, each in names.items()}
        why = rule.get("message", f"failed rule: {rule['rule']}")
        try:
            holds = bool(program(rule["rule"]).evaluate(activation))
        except CELEvalError as error:
            yield invalid_value(path, _type(value), f"{error.args[0]} evaluating rule: {why}")
            continue
        if not holds:
            yield invalid_value(path, _type(value), why)
    if isinstance(value, dict):
        for name, inner in value.items():
            below = child(schema, name)
            before = old.get(name) if isinstance(old, dict) else None
            if below:
                yield from violations(below, inner, before, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from violations(schema.get("items", {}), inner, None, f"{path}[{index}]")


def _type(value: Any) -> Any:
    """Large values are named by their type in the server's messages."""
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else value

"""Mends JSON schemas: what older drafts and clients write that no reader of Draft 7 accepts."""

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from serving.mistral.draft import Draft, Fields, objects_in

_WITH_SCHEMAS = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "oneOf",
        "prefixItems",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Keywords whose value is a schema or a list of them."""

_WITH_NAMED_SCHEMAS = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)

_MAY_BE_NULL = frozenset({"const", "default", "example"})

_BOUNDS = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))


def schemas_in(root: Any) -> Iterator[Fields]:
    """Yields a schema and then those within it, each of which may be changed as it is yielded."""
    pending = [root]
    while pending:
        schema = pending.pop()
        if type(schema) is not dict:
            continue
        yield schema
        for keyword, value in schema.items():
            if keyword in _WITH_SCHEMAS:
                pending.extend(value if type(value) is list else (value,))
            elif keyword in _WITH_NAMED_SCHEMAS and type(value) is dict:
                pending.extend(value.values())


def expressions_in(root: Mapping[str, Any]) -> list[str]:
    """Returns the different regular expressions of a schema."""
    found: dict[Any, None] = {}
    for schema in schemas_in(root):
        found.update(dict.fromkeys(_expressions(schema)))
    return list(found)


def _expressions(schema: Fields) -> Iterator[str]:
    if type(pattern := schema.get("pattern")) is str:
        yield pattern
    if type(named := schema.get("patternProperties")) is dict:
        yield from named


def without_expressions(root: Mapping[str, Any], dropped: Collection[str]) -> dict[str, Any]:
    """Returns a schema that allows what it did whatever these regular expressions match."""
    kept = copy.deepcopy(dict(root))
    for schema in schemas_in(kept):
        if schema.get("pattern") in dropped:
            del schema["pattern"]
        named = schema.get("patternProperties")
        if type(named) is dict and not named.keys().isdisjoint(dropped):
            for name in ("patternProperties", "additionalProperties", "unevaluatedProperties"):
                schema.pop(name, None)
    return kept


def mend(draft: Draft) -> None:
    """Mends the schemas of tools and of the answer's form, in place."""
    for root in _roots(draft.fields):
        for schema in schemas_in(root):
            if _mended(schema):
                draft.changed = True


def _roots(fields: Fields) -> Iterator[Any]:
    for tool in objects_in(fields.get("tools")):
        for one in (tool, *objects_in(tool.get("tools"))):
            function = one.get("function")
            holder = function if type(function) is dict else one
            yield holder.get("parameters")
            yield holder.get("input_schema")
    for path in (
        ("response_format", "json_schema", "schema"),
        ("structured_outputs", "json"),
        ("text", "format", "schema"),
        ("output_config", "format", "schema"),
    ):
        value: Any = fields
        for name in path:
            value = value.get(name) if type(value) is dict else None
        yield value


def _mended(schema: Fields) -> bool:
    """Whether a schema itself, but for those within it, was changed."""
    return any([_drop_nulls(schema), _number_bounds(schema), _read_draft_3(schema)])


def _drop_nulls(schema: Fields) -> bool:
    """Drops keywords that are null, which clients send for what they leave out."""
    nulls = [name for name, value in schema.items() if value is None and name not in _MAY_BE_NULL]
    for name in nulls:
        del schema[name]
    return bool(nulls)


def _number_bounds(schema: Fields) -> bool:
    """Makes numbers of Draft 4's exclusive bounds, which are true beside the bound."""
    changed = False
    for exclusive, bound in _BOUNDS:
        if type(schema.get(exclusive)) is bool:
            changed = True
            if schema.pop(exclusive) and bound in schema:
                schema[exclusive] = schema.pop(bound)
    return changed


def _read_draft_3(schema: Fields) -> bool:
    """Lists the properties that say of themselves that they are required, and leaves out the type
    "any"."""
    properties = schema.get("properties")
    required = [
        name
        for name, one in (properties.items() if type(properties) is dict else ())
        if type(one) is dict and one.get("required") is True
    ]
    changed = type(schema.get("required")) is bool or schema.get("type") == "any"
    if type(schema.get("required")) is bool:
        del schema["required"]
    if schema.get("type") == "any":
        del schema["type"]
    listed = schema.get("required", [])
    if required and type(listed) is list:
        known = {name for name in listed if type(name) is str}
        if added := [name for name in required if name not in known]:
            schema["required"] = [*listed, *added]
            changed = True
    return changed

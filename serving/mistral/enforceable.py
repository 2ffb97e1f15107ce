"""Rewrites a schema so that llguidance enforces all of it: its grammars do not end amid JSON, and
no number is beyond a bound."""

import copy
import math
from collections.abc import Mapping
from typing import Any

from serving.mistral.draft import Fields
from serving.mistral.expressions import texts_of
from serving.mistral.schemas import schemas_in

_EXACT = 2**53
"""From here on llguidance, which reads numbers as floats, rounds integers."""
_LIMIT = 2**63
"""From here on it takes the largest integer of 64 bits as the bound."""

_BOUNDS = (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1))


def enforceable(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a schema of the same answers, but for some integers at a bound above 2^53."""
    if not any(_is_affected(one) for one in schemas_in(schema)):
        return schema
    rewritten = copy.deepcopy(dict(schema))
    for one in schemas_in(rewritten):
        _name_keys(one)
        _round_bounds(one)
    return rewritten


def _is_affected(schema: Fields) -> bool:
    return "patternProperties" in schema or any(
        _is_rounded(schema.get(name)) for names in _BOUNDS for name in names[:2]
    )


def _name_keys(schema: Fields) -> None:
    """Makes properties of the keys of a pattern that has few.

    llguidance excludes the names of properties from a pattern's keys. If that leaves none, its
    grammar allows a comma behind which no key can follow; of those that it leaves, each may repeat.
    """
    patterns, properties = schema.get("patternProperties"), schema.get("properties", {})
    if type(patterns) is not dict or type(properties) is not dict:
        return
    for pattern in list(patterns):
        keys = texts_of(pattern)
        if keys is None or not (properties.keys() >= set(keys) or _may_have_more(schema, keys)):
            continue
        parts = patterns.pop(pattern)
        for key in keys:
            # Copies, each of which is yet to be rewritten.
            part = copy.deepcopy(parts)
            properties[key] = {"allOf": [properties[key], part]} if key in properties else part
        schema["properties"] = properties
    if not patterns:
        del schema["patternProperties"]


def _may_have_more(schema: Fields, keys: list[str]) -> bool:
    """Whether a schema may get properties of these keys, after a change of what it says of their
    number, which llguidance knows only of properties that are all required. It says nothing where
    there are no more, and at least one beside the required ones is any of them."""
    required = schema.get("required", [])
    least, most = schema.get("minProperties", 0), schema.get("maxProperties")
    alone = len(schema["patternProperties"]) == 1 and schema.get("additionalProperties") is False
    names = dict.fromkeys([*schema.get("properties", {}), *keys])
    if type(required) is not list or type(least) is not int:
        return False
    if most is not None and not (alone and type(most) is int and most >= len(names)):
        return False
    if least > len(required):
        if least > len(required) + 1 or not alone or "anyOf" in schema:
            return False
        schema["anyOf"] = [{"required": [name]} for name in names if name not in required]
    schema.pop("minProperties", None)
    schema.pop("maxProperties", None)
    return True


def _round_bounds(schema: Fields) -> None:
    """Moves bounds that no float has to the next one within them."""
    for inclusive, exclusive, step in _BOUNDS:
        for name in (inclusive, exclusive):
            bound: Any = schema.get(name)
            if not _is_rounded(bound):
                continue
            if name == exclusive:
                del schema[name]
                bound += step
            nearest = float(bound)
            if (int(nearest) - bound) * step < 0:
                nearest = math.nextafter(nearest, step * math.inf)
            other = schema.get(inclusive)
            if name == inclusive or type(other) not in (int, float) or (other - bound) * step < 0:
                schema[inclusive] = int(nearest)


def _is_rounded(bound: Any) -> bool:
    return type(bound) is int and _EXACT <= abs(bound) < _LIMIT

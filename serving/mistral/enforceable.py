"""Changes schemas with what llguidance would round or cannot read, so that answers obey them."""

import copy
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from serving.mistral.draft import Fields
from serving.mistral.schemas import schemas_in

_EXACT = 2**53
"""From here on llguidance, which reads numbers as floats, rounds integers."""
_LIMIT = 2**63
"""From here on it takes the largest integer of 64 bits as the bound of integers, and fails at the
bound of any other numbers and at the smallest integer."""
_LAST = 2**63 - 1024
"""The largest float below the limit."""

CONSTANTS = ("const", "enum")

_BOUNDS = (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1))

_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_UNREACHABLE = {"maxItems": 2**17, "maxLength": 2**32}
"""From here on llguidance compiles for seconds, or fails. No context has room for as much."""
_COMMON = min(_UNREACHABLE.values())

_IN_FRAGMENTS = "!$%&'()*+,;=:@/?"
"""What stands for itself in the fragment of a URI, besides letters, digits and `-._~`."""
_NOT_IN_FRAGMENTS = re.compile(rf"[^\w\-.~{_IN_FRAGMENTS}]|%(?![0-9A-Fa-f]{{2}})", re.ASCII).search


def enforceable(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a schema of the same answers, but for some numbers at a bound above 2^53 and those
    beyond 64 bits. Constants that would be rounded are left out: any other value is possible in
    their place."""
    if not _is_uncommon(schema):
        return schema
    rewritten = copy.deepcopy(dict(schema))
    for one in schemas_in(rewritten):
        _escape_reference(one)
        _read_counts(one)
        _clamp_bounds(one)
        _round_bounds(one)
        for name in CONSTANTS:
            if any(map(is_rounded_constant, _integers_in(one.get(name)))):
                del one[name]
    return rewritten


def _is_uncommon(schema: Mapping[str, Any]) -> bool:
    """Whether anything in a schema may have to be changed. Each request has its schemas looked
    through, few of which have that."""
    pending: list[Any] = [dict(schema)]
    while pending:
        one = pending.pop()
        kind = type(one)
        if kind is dict:
            if "$ref" in one and _is_unreadable(one["$ref"]):
                return True
            pending += one.values()
        elif kind is list:
            pending += one
        elif (kind is int or kind is float) and (
            not -_COMMON < one < _COMMON or (kind is float and one.is_integer())
        ):
            return True
    return False


def has_large_integer(schema: Mapping[str, Any]) -> bool:
    """Whether anything in a schema is an integer that may be rounded."""
    return any(not -_EXACT < number < _EXACT for number in _integers_in([*schema.values()]))


def is_rounded_constant(value: Any) -> bool:
    """Whether a constant is an integer that the answer would have rounded. The largest of 64 bits
    stays as it is, and the smallest crashes llguidance."""
    if type(value) is not int:
        return False
    return not -_LIMIT < value < _LIMIT or min(int(float(value)), _LIMIT - 1) != value


def _integers_in(value: Any) -> Iterator[int]:
    pending = [value]
    while pending:
        one = pending.pop()
        kind = type(one)
        if kind is dict:
            pending += one.values()
        elif kind is list:
            pending += one
        elif kind is int:
            yield one


def _is_unreadable(reference: Any) -> bool:
    return (
        type(reference) is str
        and reference.startswith("#")
        and _NOT_IN_FRAGMENTS(reference, 1) is not None
    )


def _escape_reference(schema: Fields) -> None:
    """Escapes what no URI has, as generators leave it in the names of generic types."""
    reference: Any = schema.get("$ref")
    if _is_unreadable(reference):
        fragment = re.sub("%(?![0-9A-Fa-f]{2})", "%25", reference[1:])
        schema["$ref"] = f"#{quote(fragment, safe=_IN_FRAGMENTS)}"


def _read_counts(schema: Fields) -> None:
    """Makes integers of counts such as 2.0, and leaves out limits that no answer reaches."""
    for name in _COUNTS:
        count = schema.get(name)
        if type(count) is float and count.is_integer():
            schema[name] = count = int(count)
        if type(count) is int and count >= _UNREACHABLE.get(name, math.inf):
            del schema[name]


def _clamp_bounds(schema: Fields) -> None:
    """Moves bounds beyond 64 bits to the last float within them."""
    for inclusive, exclusive, step in _BOUNDS:
        if step < 0 and schema.get("type") == "integer":
            continue
        for name in (exclusive, inclusive):
            bound: Any = schema.get(name)
            if type(bound) in (int, float) and bound * step <= -_LIMIT:
                del schema[name]
                schema.setdefault(inclusive, -step * _LAST)


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

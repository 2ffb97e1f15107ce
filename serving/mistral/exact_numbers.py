"""Changes schemas with numbers that llguidance would round, so that no answer breaks them."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

from serving.mistral.draft import Fields
from serving.mistral.schemas import schemas_in

_EXACT = 2**53
"""From here on llguidance, which reads numbers as floats, rounds integers."""
_LIMIT = 2**63
"""From here on it takes the largest integer of 64 bits as the bound."""

CONSTANTS = ("const", "enum")

_BOUNDS = (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1))


def with_exact_numbers(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a schema of the same answers, but for some integers at a bound above 2^53. Constants
    that would be rounded are left out: any other value is possible in their place."""
    if not has_large_integer(schema):
        return schema
    rewritten = copy.deepcopy(dict(schema))
    for one in schemas_in(rewritten):
        _round_bounds(one)
        for name in CONSTANTS:
            if any(map(is_rounded_constant, _integers_in(one.get(name)))):
                del one[name]
    return rewritten


def has_large_integer(schema: Mapping[str, Any]) -> bool:
    """Whether anything in a schema is an integer that may be rounded. Each request has its schemas
    looked through, nearly none of which has one."""
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

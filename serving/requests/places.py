"""Finds and names where in a client's request a value stands."""

from collections.abc import Callable
from typing import Any

from serving.mistral.rules import InvalidRequest


def place_of(body: Any, matches: Callable[[Any], bool]) -> str | None:
    """Returns the place of the first value that matches, such as `messages[0].content`; None if
    there is none. `body` is decoded JSON, nested however deeply."""
    left: list[tuple[str, Any]] = [("", body)]
    while left:
        place, value = left.pop()
        if matches(value):
            return place
        within: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            within = [(f"{place}.{key}" if place else key, inner) for key, inner in value.items()]
        elif isinstance(value, list):
            within = [(f"{place}[{index}]", inner) for index, inner in enumerate(value)]
        left += reversed(within)
    return None


def field_of(place: str) -> str | None:
    """Returns the request's field that a place is in."""
    return place.replace("[", ".", 1).split(".", 1)[0] or None


def wrong_type(place: str, what: str) -> InvalidRequest:
    """Returns the error for a place that must have another type of value."""
    return InvalidRequest(f"{place} must be {what}.", param=field_of(place), code="invalid_type")

"""Finds and names where in a client's request a value stands."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from serving.mistral.rules import InvalidRequest

_ITEM = re.compile(r"(\w+)\[(\d+)\]")


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


@contextlib.contextmanager
def as_sent(numbers: Sequence[int | None]) -> Iterator[None]:
    """Has an error that begins with the place of a message or item, as `messages[2].role`, name the
    place where the client sent it. `numbers` are those of a `Normalised`; what a rule has made is
    named by the list alone."""
    try:
        yield
    except InvalidRequest as error:
        found = _ITEM.match(error.message)
        if found is None or int(found[2]) >= len(numbers):
            raise
        number = numbers[int(found[2])]
        place = found[1] if number is None else f"{found[1]}[{number}]"
        message = place + error.message[found.end() :]
        raise InvalidRequest(message, error.param, error.code) from error


def wrong_type(place: str, what: str) -> InvalidRequest:
    """Returns the error for a place that must have another type of value."""
    return InvalidRequest(f"{place} must be {what}.", param=field_of(place), code="invalid_type")

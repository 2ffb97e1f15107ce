"""Puts the history of an earlier response before the input of a request."""

from collections.abc import Callable
from typing import Any

import msgspec

from serving.router.responses.items import input_items
from serving.router.responses.store import ENDED_WELL, StoredResponse

MAX_ITEMS = 1000
"""Limit on the input items of a request with its history."""


class NotFoundError(LookupError):
    """There is no such response."""


class BrokenChainError(LookupError):
    """A response is there, and one that it continues is not."""


class NotContinuableError(Exception):
    """The response has not ended, or failed. The argument is its status."""


class TooLongError(Exception):
    """The history exceeds a limit."""


class _Output(msgspec.Struct):
    output: msgspec.Raw = msgspec.Raw(b"[]")


_decode = msgspec.json.Decoder().decode
_output = msgspec.json.Decoder(_Output).decode


def history(
    get: Callable[[str], StoredResponse | None], response_id: str, max_bytes: int
) -> list[Any]:
    """Returns the input and output items up to and including this response, the oldest first; `get`
    looks responses up. Raises NotFoundError, BrokenChainError, NotContinuableError, TooLongError.
    """
    turns: list[list[Any]] = []
    items = size = 0
    next_id: str | None = response_id
    seen: set[str] = set()
    while next_id is not None:
        found = get(next_id)
        if found is None or next_id in seen:
            raise BrokenChainError if turns else NotFoundError
        if found.status not in ENDED_WELL:
            raise NotContinuableError(found.status)
        seen.add(next_id)
        output = _output(found.response).output
        size += len(found.input) + len(output)
        if size > max_bytes:
            raise TooLongError
        turn = [*_decode(found.input), *_decode(output)]
        items += len(turn)
        if items > MAX_ITEMS:
            raise TooLongError
        turns.append(turn)
        next_id = found.previous_id
    return [item for turn in reversed(turns) for item in turn]


def expand(body: dict[str, Any], before: list[Any]) -> None:
    """Puts the items `before` in front of the input of a request. Raises TooLongError."""
    given = body.get("input")
    if given is None or isinstance(given, str | list):  # anything else is for the engine to reject
        items = [*before, *input_items(given)]
        if len(items) > MAX_ITEMS:
            raise TooLongError
        body["input"] = items

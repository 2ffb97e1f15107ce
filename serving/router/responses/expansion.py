"""Puts the history of an earlier response before the input of a request."""

from collections.abc import Callable
from typing import Any

import msgspec

from serving.router.responses import errors
from serving.router.responses.items import input_items
from serving.router.responses.store import ENDED_WELL, StoredResponse

MAX_ITEMS = 1000
"""Limit on the input items of a request with its history."""


class _Output(msgspec.Struct):
    output: msgspec.Raw = msgspec.Raw(b"[]")


_decode = msgspec.json.Decoder().decode
_output = msgspec.json.Decoder(_Output).decode


def history(
    get: Callable[[str], StoredResponse | None], response_id: str, size_bytes: int, max_bytes: int
) -> list[Any]:
    """Returns the input and output items up to and including this response, the oldest first; `get`
    looks responses up. A request that has `size_bytes` without them may have `max_bytes` with them.
    Raises ApiError."""
    turns: list[list[Any]] = []
    items = 0
    next_id: str | None = response_id
    seen: set[str] = set()
    while next_id is not None:
        found = get(next_id)
        if found is None or next_id in seen:
            missing = errors.chain_broken if turns else errors.previous_not_found
            raise missing(response_id)
        if found.status not in ENDED_WELL:
            raise errors.not_continuable(response_id, found.status)
        seen.add(next_id)
        output = _output(found.response).output
        size_bytes += len(found.input) + len(output)
        if size_bytes > max_bytes:
            raise errors.history_too_long(MAX_ITEMS, max_bytes)
        turn = [*_decode(found.input), *_decode(output)]
        items += len(turn)
        if items > MAX_ITEMS:
            raise errors.history_too_long(MAX_ITEMS, max_bytes)
        turns.append(turn)
        next_id = found.previous_id
    return [item for turn in reversed(turns) for item in turn]


def expand(body: dict[str, Any], before: list[Any], max_bytes: int) -> None:
    """Puts the items `before` in front of the input of a request, which may have `max_bytes`.
    Raises ApiError if they are too many."""
    given = body.get("input")
    if given is None or isinstance(given, str | list):  # anything else is for the engine to reject
        items = [*before, *input_items(given)]
        if len(items) > MAX_ITEMS:
            raise errors.history_too_long(MAX_ITEMS, max_bytes)
        body["input"] = items

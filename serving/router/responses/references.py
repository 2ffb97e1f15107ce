"""Puts items of stored responses in the place of references to them, which OpenAI's clients send
for what an earlier answer contains."""

from collections.abc import Callable
from typing import Any

import msgspec

from serving.router.responses import errors
from serving.router.responses.store import StoredResponse


class _Output(msgspec.Struct):
    output: list[msgspec.Raw] = []


class _Head(msgspec.Struct):
    id: str


_output = msgspec.json.Decoder(_Output).decode
_head = msgspec.json.Decoder(_Head).decode
_decode = msgspec.json.Decoder().decode


def has_references(items: Any) -> bool:
    return isinstance(items, list) and any(map(_is_reference, items))


def resolved(
    get: Callable[[str], StoredResponse | None], items: list[Any], size_bytes: int, max_bytes: int
) -> list[Any]:
    """Returns the items with those that they refer to; `get` looks responses up. A request that has
    `size_bytes` without them may have `max_bytes` with them. Raises ApiError."""
    known: dict[str, msgspec.Raw] = {}
    looked_up: set[str] = set()
    for item_id in [item["id"] for item in items if _is_reference(item)]:
        response_id = response_of(item_id)
        if response_id not in looked_up:
            looked_up.add(response_id)
            found = get(response_id)
            if found is not None:
                known |= {_head(item).id: item for item in _output(found.response).output}
        if item_id not in known:
            raise errors.item_not_found(item_id)
        size_bytes += len(bytes(known[item_id]))
        if size_bytes > max_bytes:
            raise errors.items_too_large(max_bytes)
    return [_decode(known[item["id"]]) if _is_reference(item) else item for item in items]


def response_of(item_id: str) -> str:
    """Returns the id of the response that has an item of that id: an engine puts a prefix of its
    kind before the response's id, and its number in two digits behind."""
    return f"resp_{item_id.partition('_')[2][:-2]}"


def _is_reference(item: Any) -> bool:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return False
    return item.get("type") == "item_reference" or item.keys() == {"id"}

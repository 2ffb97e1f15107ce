"""The input items of a request, as they are kept and as clients list them."""

import uuid
from typing import Any

from serving.router.responses.objects import encoded, parsed

Item = dict[str, Any]

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}
_PART_OF_ROLE = {"assistant": "output_text"}


def input_items(given: Any) -> list[Any]:
    """Returns the items of a request's `input`, a text as one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return given if isinstance(given, list) else []


def kept_input(raw: bytes) -> bytes:
    """Returns the input items of a request's body as they are kept."""
    return encoded(with_ids(input_items(parsed(raw).get("input"))))


def with_ids(items: list[Any]) -> list[Item]:
    """Returns the objects among the items, with new ids for those that lack one."""
    return [
        item if isinstance(item.get("id"), str) and item["id"] else {**item, "id": _new_id(item)}
        for item in items
        if isinstance(item, dict)
    ]


def _new_id(item: Item) -> str:
    prefix = _PREFIXES.get(str(item.get("type") or "message"), "item")
    return f"{prefix}_{uuid.uuid4().hex}"


def listed(item: Item) -> Item:
    """Returns a kept item in the form in which the API lists it."""
    kind = item.get("type") or "message"
    listed: Item = {**item, "type": kind}
    if kind in ("message", "function_call", "function_call_output"):
        listed["status"] = item.get("status") or "completed"
    content = item.get("content")
    if kind == "message" and isinstance(content, str):
        part: Item = {"type": _PART_OF_ROLE.get(str(item.get("role")), "input_text")}
        part["text"] = content
        if part["type"] == "output_text":
            part["annotations"] = []
        listed["content"] = [part]
    return listed


def page(items: list[Item], limit: int, after: str | None, descending: bool) -> Item:
    """Returns the list object of up to `limit` items behind the one with the id `after`. Raises
    KeyError if there is no such item."""
    ordered = items[::-1] if descending else items
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise KeyError(after)
        ordered = ordered[ids.index(after) + 1 :]
    data = [listed(item) for item in ordered[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(ordered) > limit,
    }

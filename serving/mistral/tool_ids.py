"""Rewrites tool call ids. Mistral's tokenizers accept nine letters or digits; other services' ids
are longer, shorter, or have a prefix and dashes (`call_…`, `toolu_…`), and vLLM cuts long ones to
their last nine characters, which can make two ids collide."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from serving.mistral.draft import Draft, Fields, objects_in

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

Place = tuple[Fields, str]
"""An object and the key of an id in it."""


def is_valid(tool_id: str) -> bool:
    return len(tool_id) == 9 and tool_id.isascii() and tool_id.isalnum()


def nine_alphanumerics(tool_id: str, attempt: int = 0) -> str:
    """Returns a valid id that depends on `tool_id` alone, so that each turn's prompt stays a prefix
    of the next turn's. Each `attempt` gives another id."""
    seed = f"{attempt}:{tool_id}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest())
    digits = []
    for _ in range(9):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def replacements(ids: list[str]) -> dict[str, str]:
    """Returns a valid id for each invalid one; no two of `ids` become equal."""
    taken = {tool_id for tool_id in ids if is_valid(tool_id)}
    new: dict[str, str] = {}
    for tool_id in ids:
        if tool_id in taken or tool_id in new:
            continue
        attempt = 0
        while (candidate := nine_alphanumerics(tool_id, attempt)) in taken:
            attempt += 1
        new[tool_id] = candidate
        taken.add(candidate)
    return new


def rewrite(field: str, places: Callable[[Fields], Iterator[Place]]) -> Callable[[Draft], None]:
    """Returns the rule that rewrites the ids at `places` of each object in the list `field`."""

    def rule(draft: Draft) -> None:
        found = [place for item in draft.objects(field) for place in places(item)]
        found = [(holder, key) for holder, key in found if type(holder.get(key)) is str]
        if all(is_valid(holder[key]) for holder, key in found):
            return
        new = replacements([holder[key] for holder, key in found])
        for holder, key in found:
            holder[key] = new.get(holder[key], holder[key])
        draft.originals |= {valid: original for original, valid in new.items()}
        draft.changed = True

    return rule


def in_chat_message(message: Fields) -> Iterator[Place]:
    if message.get("tool_calls"):
        for call in objects_in(message["tool_calls"]):
            yield call, "id"
    if message.get("role") == "tool":
        yield message, "tool_call_id"


def in_response_item(item: Fields) -> Iterator[Place]:
    if "call_id" in item:
        yield item, "call_id"


def in_anthropic_message(message: Fields) -> Iterator[Place]:
    content: Any = message.get("content")
    for block in objects_in(content):
        if block.get("type") == "tool_use":
            yield block, "id"
        elif block.get("type") == "tool_result":
            yield block, "tool_use_id"

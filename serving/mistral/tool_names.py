"""Shortens the names of tools. Mistral's tokenizers accept 64 characters; Anthropic's API and
OpenAI's responses accept 128, which MCP servers' names need."""

import re
from collections.abc import Callable, Iterator

from serving.mistral.draft import Draft, Fields, objects_in
from serving.mistral.tool_ids import nine_alphanumerics

_TOO_LONG = re.compile(r"[a-zA-Z0-9_-]{65,128}").fullmatch


def shortened(name: str) -> str:
    """Returns a name of 64 characters that depends on `name` alone and shows both of its ends."""
    return f"{name[:27]}_{nine_alphanumerics(name)}_{name[-26:]}"


def shorten(calls: Callable[[Draft], Iterator[Fields]]) -> Callable[[Draft], None]:
    """Returns the rule that shortens the names of the tools, of a chosen one, and of those that
    `calls` returns: the objects with the names of earlier calls."""

    def rule(draft: Draft) -> None:
        for holder in (*_tools(draft), *calls(draft)):
            name = holder.get("name")
            if type(name) is str and _TOO_LONG(name):
                holder["name"] = shortened(name)
                draft.originals[holder["name"]] = name
                draft.changed = True

    return rule


def _tools(draft: Draft) -> Iterator[Fields]:
    choice = objects_in([draft.fields.get("tool_choice")])
    for tool in (*objects_in(draft.fields.get("tools")), *choice):
        yield from objects_in([tool.get("function", tool)])


def in_chat(draft: Draft) -> Iterator[Fields]:
    for message in draft.objects("messages"):
        for call in objects_in(message.get("tool_calls")):
            yield from objects_in([call.get("function")])


def in_response(draft: Draft) -> Iterator[Fields]:
    return (item for item in draft.objects("input") if item.get("type") == "function_call")


def in_anthropic(draft: Draft) -> Iterator[Fields]:
    for message in draft.objects("messages"):
        for block in objects_in(message.get("content")):
            if block.get("type") == "tool_use":
                yield block

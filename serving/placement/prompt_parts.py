"""Extracts the parts of a prompt from a request's body, in the order in which the engine sees
them."""

import json
from array import array
from contextlib import suppress
from enum import IntEnum
from typing import Any

import msgspec


class Kind(IntEnum):
    """The kind of a part. Equal text of two kinds is tokenized differently."""

    TEXT = 1
    TOKEN_IDS = 2
    SYSTEM = 3
    USER = 4
    ASSISTANT = 5
    TOOL = 6
    TOOLS = 7
    IMAGE = 8


_COMPLETIONS = "/v1/completions"

Part = tuple[Kind, str | bytes]
"""TOKEN_IDS have four bytes per id; an IMAGE is its URL or its data in base64."""

_ROLES = {
    "system": Kind.SYSTEM,
    "developer": Kind.SYSTEM,
    "user": Kind.USER,
    "assistant": Kind.ASSISTANT,
    "tool": Kind.TOOL,
    "function_call": Kind.ASSISTANT,
    "custom_tool_call": Kind.ASSISTANT,
    "function_call_output": Kind.TOOL,
    "custom_tool_call_output": Kind.TOOL,
}


def prompt_parts(
    endpoint: str, body: dict[str, Any], tools_first: bool, system: str | None = None
) -> list[Part]:
    """Returns the parts of the prompt in a `body` sent to the path `endpoint`; none for endpoints
    without a prompt. An invalid request is read as far as possible, as the engine will reject it.

    With `tools_first` tools stand before the first user message (tokenizer v13), else before the
    last one. A conversation with tools then shares with its next turn only what comes before that
    message, as in the engine. `system` is the system prompt of conversations without one.
    """
    parts: list[Part] = []
    with suppress(RecursionError):
        _prompt(parts, endpoint, body, tools_first)
    if system is None or not parts or endpoint == _COMPLETIONS:
        return parts
    if not any(kind is Kind.SYSTEM for kind, _ in parts):
        parts.insert(0, (Kind.SYSTEM, system))
    return parts


def _prompt(parts: list[Part], endpoint: str, body: dict[str, Any], tools_first: bool) -> None:
    if endpoint == _COMPLETIONS:
        _completion(parts, body.get("prompt"))
        return
    if endpoint == "/v1/responses":
        _content(parts, Kind.SYSTEM, body.get("instructions"))
        turns = body.get("input")
    else:
        _content(parts, Kind.SYSTEM, body.get("system"))
        turns = body.get("messages")
    if type(turns) is str:
        turns = [{"role": "user", "content": turns}]
    elif type(turns) is not list:
        turns = []
    tools = body.get("tools")
    at = _tools_position(turns, tools_first) if tools else -1
    for index, turn in enumerate(turns):
        if index == at:
            parts.append((Kind.TOOLS, _encoded(tools)))
        if type(turn) is dict:
            _turn(parts, turn)


def _completion(parts: list[Part], prompt: Any) -> None:
    """Adds a text, the ids of its tokens, or a list of either."""
    if type(prompt) is str:
        parts.append((Kind.TEXT, prompt))
    elif type(prompt) is list and prompt:
        if type(prompt[0]) is int:
            with suppress(TypeError, OverflowError):
                parts.append((Kind.TOKEN_IDS, array("I", prompt).tobytes()))
        else:
            for one in prompt:
                _completion(parts, one)


def _tools_position(turns: list[Any], tools_first: bool) -> int:
    indices = range(len(turns))
    for index in indices if tools_first else reversed(indices):
        if _is_of_user(turns[index]):
            return index
    return -1


def _is_of_user(turn: Any) -> bool:
    if type(turn) is not dict or turn.get("role") != "user":
        return False
    content = turn.get("content")
    # In Anthropic's API user turns carry the results of tools.
    return type(content) is not list or not all(
        type(part) is dict and part.get("type") == "tool_result" for part in content
    )


def _turn(parts: list[Part], turn: dict[str, Any]) -> None:
    role = turn.get("role") or turn.get("type")
    kind = _ROLES.get(role, Kind.TEXT) if type(role) is str else Kind.TEXT
    content = turn.get("content")
    if type(content) is str:
        parts.append((kind, content))
    elif content is not None:
        _content(parts, kind, content)
    elif "role" not in turn:
        parts.append((kind, _encoded(turn)))
    calls = turn.get("tool_calls")
    if calls:
        parts.append((kind, _encoded(calls)))


def _content(parts: list[Part], kind: Kind, content: Any) -> None:
    if type(content) is str:
        parts.append((kind, content))
    elif type(content) is list:
        for part in content:
            _content_part(parts, kind, part)


def _content_part(parts: list[Part], kind: Kind, part: Any) -> None:
    if type(part) is not dict:
        return
    text = part.get("text")
    if type(text) is str:
        parts.append((kind, text))
    elif part.get("type") == "tool_result":
        _content(parts, Kind.TOOL, part.get("content"))
    elif (image := _image(part)) is not None:
        parts.append((Kind.IMAGE, image))
    else:
        parts.append((kind, _encoded(part)))


def _image(part: dict[str, Any]) -> str | None:
    image = part.get("image_url") or part.get("source")
    if type(image) is dict:
        image = image.get("url") or image.get("data")
    return image if type(image) is str else None


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value).encode()

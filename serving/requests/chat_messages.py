"""Checks the messages of chats, which mistral_common and vLLM read without validation."""

from collections.abc import Sequence
from typing import Any

from serving.mistral.rules import InvalidRequest
from serving.requests.request import JsonObject

_ROLES = ("system", "user", "assistant", "tool")
_TEXT_PARTS = ("text", "thinking")
"""Kinds of parts whose text is in the field of their own name."""


def check_messages(messages: Sequence[JsonObject]) -> None:
    """Raises InvalidRequest for a message that is not one of OpenAI's chat completions."""
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if role not in _ROLES:
            raise _invalid(f"{where}.role must be one of {', '.join(_ROLES)}.")
        _check_content(message.get("content"), role, where)
        calls = message.get("tool_calls")
        if calls is not None:
            if type(calls) is not list:
                raise _invalid(f"{where}.tool_calls must be a list.")
            for at, call in enumerate(calls):
                _check_call(call, f"{where}.tool_calls[{at}]")
        if role == "tool" and type(message.get("tool_call_id")) is not str:
            raise _invalid(f"{where}.tool_call_id must be a string.")


def _check_content(content: Any, role: str, where: str) -> None:
    if type(content) is str or (content is None and role == "assistant"):
        return
    if type(content) is not list:
        raise _invalid(f"{where}.content must be a string or a list of parts.")
    for at, part in enumerate(content):
        _check_part(part, f"{where}.content[{at}]")


def _check_part(part: Any, where: str) -> None:
    if type(part) is not dict:
        raise _invalid(f"{where} must be an object.")
    kind = part.get("type")
    if kind == "image_url":
        image = part.get("image_url")
        if type(image) is not dict or type(image.get("url")) is not str:
            raise _invalid(f"{where}.image_url.url must be a string.")
    elif kind not in _TEXT_PARTS:
        raise _invalid(f'{where}.type must be "text" or "image_url".')
    elif type(part.get(kind)) is not str and kind == "text":
        raise _invalid(f"{where}.text must be a string.")


def _check_call(call: Any, where: str) -> None:
    function = call.get("function") if type(call) is dict else None
    if type(function) is not dict:
        raise _invalid(f"{where}.function must be an object.")
    if type(call.get("id")) is not str:
        raise _invalid(f"{where}.id must be a string.")
    for name in ("name", "arguments"):
        if type(function.get(name)) is not str:
            raise _invalid(f"{where}.function.{name} must be a string.")


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="messages", code="invalid_value")

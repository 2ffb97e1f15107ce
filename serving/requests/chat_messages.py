"""Checks the messages of chats, which mistral_common and vLLM read without validation."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from serving.mistral.rules import InvalidRequest, ModelRules
from serving.requests.function_names import NAME, is_function_name
from serving.requests.request import JsonObject

_PARTS: Mapping[str, tuple[str, ...]] = {
    "system": ("text", "thinking"),
    "user": ("text", "image_url"),
    "assistant": ("text", "thinking"),
    "tool": ("text",),
}
"""The kinds of parts that a message may have, by its role; "thinking" if the tokenizer has tokens
for it. The rules have moved images out of results."""

_CALLERS = ("assistant", "tool")
_MANY_DIGITS = re.compile(r"(?<!\d)\d{4301}").search
"""Whether a text may have an integer that Python refuses to read; each digit is looked at once."""


def check_messages(messages: Sequence[JsonObject], rules: ModelRules) -> None:
    """Raises InvalidRequest for a message that is not one of OpenAI's chat completions."""
    pending: set[str] = set()  # the ids of calls without a result yet
    previous = ""
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if type(role) is not str or role not in _PARTS:
            raise _invalid(f"{where}.role must be one of {', '.join(_PARTS)}.")
        _check_content(message.get("content"), role, rules, where)
        calls = message.get("tool_calls")
        if calls is not None:
            if type(calls) is not list:
                raise _invalid(f"{where}.tool_calls must be a list.")
            for at, call in enumerate(calls):
                _check_call(call, f"{where}.tool_calls[{at}]")
        if role == "tool":
            _check_result(message, where)
            # The tokenizer takes any result at the beginning, as of a conversation that was cut.
            if index and (previous not in _CALLERS or message["tool_call_id"] not in pending):
                raise _invalid(
                    f"{where}.tool_call_id must be the id of a call in the assistant's message "
                    "before, which has one result for each call."
                )
            pending.discard(message["tool_call_id"])
        elif role == "assistant":
            if pending:
                raise _invalid(f"{where} must stand behind the results of all calls before it.")
            for at, call in enumerate(calls or ()):
                if call["id"] in pending:
                    raise _invalid(f"{where}.tool_calls[{at}].id must differ from those before it.")
                pending.add(call["id"])
        previous = role


def _check_content(content: Any, role: str, rules: ModelRules, where: str) -> None:
    if type(content) is str or (content is None and role == "assistant"):
        return
    if type(content) is not list:
        raise _invalid(f"{where}.content must be a string or a list of parts.")
    kinds = [kind for kind in _PARTS[role] if kind != "thinking" or rules.tokenizer == "v13"]
    for at, part in enumerate(content):
        _check_part(part, role, kinds, f"{where}.content[{at}]")


def _check_part(part: Any, role: str, kinds: Sequence[str], where: str) -> None:
    if type(part) is not dict:
        raise _invalid(f"{where} must be an object.")
    kind = part.get("type")
    if kind not in kinds:
        known = " or ".join(f'"{one}"' for one in kinds)
        raise _invalid(f"{where}.type must be {known} in a message of the role {role}.")
    if kind == "image_url":
        image = part.get("image_url")
        if type(image) is not dict or type(image.get("url")) is not str or not image["url"]:
            raise _invalid(f"{where}.image_url.url must be a string that is not empty.")
        if type(image.get("detail", "")) not in (str, type(None)):
            raise _invalid(f"{where}.image_url.detail must be a string.")
    elif type(part.get(kind)) is not str:  # the text is in the field of the kind's own name
        raise _invalid(f"{where}.{kind} must be a string.")


def _check_call(call: Any, where: str) -> None:
    function = call.get("function") if type(call) is dict else None
    if type(function) is not dict:
        if type(call) is dict and call.get("type") == "custom":
            raise _invalid(f"{where}.custom must be an object with the strings name and input.")
        raise _invalid(f"{where}.function must be an object.")
    if call.get("type") != "function":
        raise _invalid(f'{where}.type must be "function".')
    if type(call.get("id")) is not str:
        raise _invalid(f"{where}.id must be a string.")
    name, arguments = function.get("name"), function.get("arguments")
    if type(name) is not str or not is_function_name(name):
        raise _invalid(f"{where}.function.name must be {NAME}.")
    if type(arguments) is not str:
        raise _invalid(f"{where}.function.arguments must be a string.")
    if _MANY_DIGITS(arguments) and not _is_readable(arguments):
        raise _invalid(f"{where}.function.arguments must not have integers above 4300 digits.")


def _is_readable(arguments: str) -> bool:
    """Whether the tokenizer, which reads arguments where they are JSON, finds no integer in them
    that is too long."""
    try:
        json.loads(arguments)
    except ValueError as error:
        return isinstance(error, json.JSONDecodeError)
    except RecursionError:  # which the tokenizer meets as well
        pass
    return True


def _check_result(message: JsonObject, where: str) -> None:
    if type(message.get("tool_call_id")) is not str:
        raise _invalid(f"{where}.tool_call_id must be a string.")
    if type(message.get("name", "")) is not str:
        raise _invalid(f"{where}.name must be a string.")


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="messages")

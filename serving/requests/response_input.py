"""Converts the input of a request to OpenAI's Responses API into a chat's messages."""

from typing import Any

from serving.mistral import custom_tools
from serving.mistral.rules import InvalidRequest
from serving.requests.places import wrong_type
from serving.requests.request import TEXT_SEPARATOR, JsonObject
from serving.requests.response_tools import ResponseTools

_ROLES = ("user", "assistant", "system")
_RESULTS = ("function_call_output", "custom_tool_call_output")
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""The field with the text, by the type of the part."""


def read_input(
    input: str | list[Any], instructions: str | None, tools: ResponseTools
) -> tuple[list[JsonObject], bool]:
    """Returns the messages, and whether the answer continues the last one. The model's reasoning in
    earlier turns is left out. Raises InvalidRequest."""
    messages: list[JsonObject] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(input, str):
        messages.append({"role": "user", "content": input})
        return messages, False
    images: list[JsonObject] = []
    for index, item in enumerate(input):
        path = f"input[{index}]"
        if isinstance(item, dict) and item.get("type") in _RESULTS:
            images += _add_result(messages, item, path)
            continue
        _add_images(messages, images)
        images = []
        _add(messages, item, path, tools)
    _add_images(messages, images)
    if len(messages) == bool(instructions):
        raise InvalidRequest(
            "input must not be empty: send at least one message.", param="input", code="empty_array"
        )
    continued = _is_partial(input[-1])
    if not continued:
        _refuse_nothing_to_answer(messages[-1])
    return messages, continued


def _refuse_nothing_to_answer(last: JsonObject) -> None:
    if last["role"] != "assistant":
        return
    raise InvalidRequest(
        "input must have a function_call_output or custom_tool_call_output for each call of the "
        "last turn."
        if last.get("tool_calls")
        else "input ends with a completed answer, or with that of previous_response_id: add a "
        "message of the user's. To have the answer continued, send it as the last item without "
        "its status.",
        param="input",
    )


def _is_partial(item: JsonObject) -> bool:
    """Whether the item is an answer of which the client wants the rest: one that nobody calls
    completed."""
    return (
        item.get("type", "message") == "message"
        and item.get("role") == "assistant"
        and item.get("status") != "completed"
    )


def _add(messages: list[JsonObject], item: Any, path: str, tools: ResponseTools) -> None:
    if not isinstance(item, dict):
        raise wrong_type(path, "an object")
    match item.get("type") or "message":
        case "message":
            _add_message(messages, item, path)
        case "function_call":
            _add_call(messages, item, _string(item, "arguments", path), path, tools)
        case "custom_tool_call":
            arguments = custom_tools.arguments(_string(item, "input", path))
            _add_call(messages, item, arguments, path, tools)
        case "reasoning":
            pass
        case other:
            name = f' "{other[:64]}"' if isinstance(other, str) else ""
            raise InvalidRequest(
                f"{path} is of a type{name} that is not supported.",
                param="input",
                code="unsupported_parameter",
            )


def _add_result(messages: list[JsonObject], item: JsonObject, path: str) -> list[JsonObject]:
    """Adds the text of a call's result; returns its images, which no tool's message may have."""
    content = _content(item.get("output"), f"{path}.output", True)
    images: list[JsonObject] = []
    if not isinstance(content, str):
        images = [part for part in content if part["type"] != "text"]
        content = TEXT_SEPARATOR.join(part["text"] for part in content if part["type"] == "text")
    id = _string(item, "call_id", path)
    messages.append({"role": "tool", "tool_call_id": id, "content": content})
    return images


def _add_images(messages: list[JsonObject], images: list[JsonObject]) -> None:
    """Shows the model the images of results, as its user would."""
    if images:
        messages.append({"role": "user", "content": images})


def _add_message(messages: list[JsonObject], item: JsonObject, path: str) -> None:
    role = item.get("role")
    if role not in _ROLES:
        raise InvalidRequest(
            f'{path}.role must be "user", "assistant", "system" or "developer".', param="input"
        )
    content = _content(item.get("content"), f"{path}.content", role == "user")
    last = messages[-1] if messages else {}
    if role == "assistant" and last.get("role") == "assistant" and "content" not in last:
        last["content"] = content  # one turn of the model, whose text stands before its calls
    else:
        messages.append({"role": role, "content": content})


def _add_call(
    messages: list[JsonObject], item: JsonObject, arguments: str, path: str, tools: ResponseTools
) -> None:
    namespace = None if item.get("namespace") is None else _string(item, "namespace", path)
    call = {
        "id": _string(item, "call_id", path),
        "type": "function",
        "function": {
            "name": tools.name_of(_string(item, "name", path), namespace),
            "arguments": arguments,
        },
    }
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    messages[-1].setdefault("tool_calls", []).append(call)


def _content(content: Any, path: str, images: bool) -> str | list[JsonObject]:
    """Returns the text of a content, or chat parts if it has images."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong_type(path, "a string or an array")
    parts = [_part(part, f"{path}[{index}]", images) for index, part in enumerate(content)]
    if any(part["type"] != "text" for part in parts):
        return parts
    return TEXT_SEPARATOR.join(part["text"] for part in parts if part["text"])


def _part(part: Any, path: str, images: bool) -> JsonObject:
    if not isinstance(part, dict):
        raise wrong_type(path, "an object")
    type = part.get("type")
    if isinstance(type, str) and type in _TEXTS:
        return {"type": "text", "text": _string(part, _TEXTS[type], path)}
    if type == "input_image" and images:
        if not isinstance(part.get("image_url"), str):
            raise InvalidRequest(
                f"{path} needs an image_url: this service stores no files.",
                param="input",
                code="unsupported_parameter",
            )
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    raise InvalidRequest(
        f"{path} is of a type that is not supported here: send texts"
        + (" and images." if images else "."),
        param="input",
        code="unsupported_parameter",
    )


def _string(holder: JsonObject, key: str, path: str) -> str:
    value = holder.get(key)
    if not isinstance(value, str):
        raise wrong_type(f"{path}.{key}", "a string")
    return value

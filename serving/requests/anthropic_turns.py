"""Converts the conversation of Anthropic's Messages API into a chat's messages."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NoReturn

import msgspec

from serving.mistral.rules import InvalidRequest
from serving.requests.places import field_of
from serving.requests.request import JsonObject

_ATTRIBUTION = "x-anthropic-billing-header"
"""The beginning of a block that Claude Code adds to the system prompt. Its hash changes with each
request, and would keep the prompt out of the prefix cache."""


class Message(msgspec.Struct):
    """A turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[JsonObject]


def chat_messages(
    system: str | list[JsonObject] | None, messages: Sequence[Message]
) -> list[JsonObject]:
    """Returns the messages of a chat. System messages before all turns join the system prompt.
    Later ones become the user's: no tokenizer takes them after an assistant's, and a system prompt
    that grows would keep the conversation out of the prefix cache. Raises InvalidRequest."""
    instructions = [*_system_texts(system, "system")]
    turns: list[JsonObject] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role == "system":
            texts = _system_texts(message.content, f"{where}.content")
            if turns:
                turns.extend({"role": "user", "content": text} for text in texts)
            else:
                instructions.extend(texts)
        elif isinstance(message.content, str):
            if message.content or message.role == "user":
                turns.append({"role": message.role, "content": message.content})
        elif message.role == "user":
            turns.extend(_user(message.content, where))
        else:
            turns.extend(_assistant(message.content, where))
    if messages and not turns:
        where = f"messages[{len(messages) - 1}].content"
        raise _invalid(f"{where} must not be empty: no message has any content.", where)
    if instructions:
        turns.insert(0, {"role": "system", "content": "\n\n".join(instructions)})
    return turns


def _system_texts(content: str | list[JsonObject] | None, where: str) -> Iterator[str]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    for index, block in enumerate(blocks):
        here = f"{where}[{index}]"
        if block.get("type") != "text":
            _refuse(block, here)
        text = _text(block, here)
        if text and not text.startswith(_ATTRIBUTION):
            yield text


def _user(blocks: list[JsonObject], where: str) -> Iterator[JsonObject]:
    """Yields the results of a turn, which must follow the calls, and then what the user says."""
    images: list[JsonObject] = []
    parts: list[JsonObject] = []
    for index, block in enumerate(blocks):
        here = f"{where}.content[{index}]"
        if block.get("type") == "tool_result":
            text, shown = _result(block.get("content"), here)
            id = _string(block, "tool_use_id", here)
            yield {"role": "tool", "tool_call_id": id, "content": text}
            images += shown
        else:
            parts += _parts(block, here)
    if content := _content([*images, *parts]):
        yield {"role": "user", "content": content}


def _assistant(blocks: list[JsonObject], where: str) -> Iterator[JsonObject]:
    """Yields the turn unless it is empty. Thinking is dropped: the model is not shown its own."""
    parts: list[JsonObject] = []
    calls: list[JsonObject] = []
    for index, block in enumerate(blocks):
        here = f"{where}.content[{index}]"
        match block.get("type"):
            case "thinking" | "redacted_thinking":
                pass
            case "text":
                parts += _parts(block, here)
            case "tool_use":
                calls.append(_call(block, here))
            case _:
                _refuse(block, here)
    message: JsonObject = {"role": "assistant"}
    if content := _content(parts):
        message["content"] = content
    if calls:
        message["tool_calls"] = calls
    if len(message) > 1:
        yield message


def _call(block: JsonObject, where: str) -> JsonObject:
    arguments = block.get("input") or {}
    if not isinstance(arguments, dict):
        raise _invalid(f"{where}.input must be an object.", where)
    return {
        "id": _string(block, "id", where),
        "type": "function",
        "function": {
            "name": _string(block, "name", where),
            "arguments": json.dumps(arguments, ensure_ascii=False),
        },
    }


def _result(content: object, where: str) -> tuple[str, list[JsonObject]]:
    """Returns the text and the images of a tool's result. `is_error` changes nothing, since the
    models know no failed results but by their text."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise _invalid(f"{where}.content must be a string or a list of blocks.", where)
    texts: list[str] = []
    images: list[JsonObject] = []
    for index, block in enumerate(content):
        here = f"{where}.content[{index}]"
        if not isinstance(block, dict):
            raise _invalid(f"{here} must be an object.", here)
        for part in _parts(block, here):
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                images.append(part)
    return "\n".join(texts), images


def _parts(block: JsonObject, where: str) -> list[JsonObject]:
    """Returns the part of a chat's message for a block of content; none for an empty text."""
    match block:
        case {"type": "text"}:
            text = _text(block, where)
            return [{"type": "text", "text": text}] if text else []
        case {"type": "tool_reference", "tool_name": str(name)}:
            # The prompt describes every tool, so that one that a search found needs only its name.
            return [{"type": "text", "text": name}]
        case {"type": "document", "source": {"type": "text", "data": str(data)}}:
            return _titled(block, ("title", "context"), [{"type": "text", "text": data}])
        case {"type": "document", "source": {"type": "content", "content": content}}:
            return _titled(block, ("title", "context"), _nested(content, f"{where}.source"))
        case {"type": "search_result", "content": content}:
            return _titled(block, ("title", "source"), _nested(content, where))
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return [{"type": "image_url", "image_url": {"url": url}}]
        case {
            "type": "image",
            "source": {"type": "base64", "media_type": str(media_type), "data": str(data)},
        }:
            return [{"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}]
        case {"type": "image" | "document"}:
            raise _invalid(f"{where}.source has a form that is not supported.", where)
    _refuse(block, where)


def _nested(content: object, where: str) -> list[JsonObject]:
    """Returns the parts of the content of a document or a search result."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _invalid(f"{where}.content must be a string or a list of blocks.", where)
    return [
        part
        for index, block in enumerate(content)
        for part in _parts(block, f"{where}.content[{index}]")
    ]


def _titled(block: JsonObject, names: Iterable[str], parts: list[JsonObject]) -> list[JsonObject]:
    """Returns parts behind the texts that a block has under these names, such as its title. Texts
    that follow one another are joined."""
    heads = [block[name] for name in names if isinstance(block.get(name), str) and block[name]]
    joined: list[JsonObject] = []
    for part in [*({"type": "text", "text": head} for head in heads), *parts]:
        if joined and part["type"] == joined[-1]["type"] == "text":
            joined[-1] = {"type": "text", "text": f"{joined[-1]['text']}\n{part['text']}"}
        elif part.get("text") != "":
            joined.append(part)
    return joined


def _content(parts: list[JsonObject]) -> str | list[JsonObject]:
    """Returns the shortest form of the content; empty if there is none."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _text(block: JsonObject, where: str) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise _invalid(f"{where}.text must be a string.", where)
    return text


def _string(block: JsonObject, name: str, where: str) -> str:
    value = block.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(f"{where}.{name} must be a string.", where)
    return value


def _refuse(block: JsonObject, where: str) -> NoReturn:
    kind = str(block.get("type"))[:64]
    raise _invalid(f'{where} has the type "{kind}", which is not supported here.', where)


def _invalid(message: str, where: str) -> InvalidRequest:
    return InvalidRequest(message, param=field_of(where))

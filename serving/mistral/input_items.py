"""Rules for the input items of /v1/responses, which an engine converts to chat messages; not all
that OpenAI's clients send survives that with a Mistral tokenizer."""

import json
from typing import Any

from serving.mistral.draft import Draft, Fields
from serving.mistral.turns import (
    CONTINUED_WARNING,
    LAST_SYSTEM_WARNING,
    LATE_SYSTEM_WARNING,
    asks_last,
)

_JOIN = "\n\n"
"""The separator that mistral-common puts between two texts of one message."""

_CALLS = ("function_call", "custom_tool_call")
_RESULTS = ("function_call_output", "custom_tool_call_output")


def normalise_items(draft: Draft) -> None:
    """Normalises the roles, contents and order of the items."""
    front: list[Fields] = []
    rest: list[Fields] = []
    previous: Any = "system"
    for item in asks_last(draft.objects("input")):
        item["role"] = "user"
        draft.changed = True
        draft.warn(LAST_SYSTEM_WARNING)
    for item in draft.objects("input"):
        if item.get("type") == "reasoning" and draft.rules.tokenizer != "v13":
            continue  # OpenAI's API shows it to the model only within a tool's turn
        _plain_contents(item, draft)
        _text_of_arguments(item, draft)
        role = _role(item)
        if role == "assistant" and _is_empty(item):
            continue
        if role == "system" and (not rest or previous in ("assistant", "tool")):
            front.append(item)
            if rest:
                draft.warn(LATE_SYSTEM_WARNING)
        else:
            rest.append(item)
            previous = role
    if rest and rest[-1].get("role") == "assistant" and "status" not in rest[-1]:
        draft.warn(CONTINUED_WARNING)
    draft.replace("input", [*front, *rest])


def _role(item: Fields) -> Any:
    """Returns the role of the chat message that vLLM makes of the item."""
    if item.get("type") in _CALLS:
        return "assistant"
    return "tool" if item.get("type") in _RESULTS else item.get("role")


def _plain_contents(item: Fields, draft: Draft) -> None:
    if item.get("role") == "developer":
        item["role"] = "system"
        draft.changed = True
    for key in ("content", "output"):
        text = _joined(item.get(key))
        if text is not None and not (text and key == "content" and _is_output_message(item)):
            item[key] = text
            draft.changed = True


def _text_of_arguments(item: Fields, draft: Draft) -> None:
    """Encodes arguments that are an object, and gives a result without output an empty one."""
    if item.get("type") == "function_call" and type(item.get("arguments")) is dict:
        item["arguments"] = json.dumps(item["arguments"], ensure_ascii=False)
        draft.changed = True
    if item.get("type") in _RESULTS and item.get("output") is None:
        item["output"] = ""
        draft.changed = True


def _is_output_message(item: Fields) -> bool:
    """Whether the item is an answer of this API, of which vLLM reads only one text."""
    content = item["content"]
    return (
        item.get("type") == "message"
        and item.get("role") == "assistant"
        and len(content) == 1
        and content[0].get("type") == "output_text"
    )


def _joined(content: Any) -> str | None:
    """Joins a list of text parts; returns None for anything else, as one with images."""
    if type(content) is not list:
        return None
    texts = []
    for part in content:
        if type(part) is not dict:
            return None
        text = part.get("refusal" if part.get("type") == "refusal" else "text")
        if type(text) is not str:
            return None
        texts.append(text)
    return _JOIN.join(text for text in texts if text)


def _is_empty(item: Fields) -> bool:
    return item.get("type", "message") == "message" and item.get("content") in (None, "", [])

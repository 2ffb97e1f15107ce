"""Rules for the messages of a chat: roles, empty turns, reasoning of earlier turns, content
parts."""

import json
import re
from typing import Any

from serving.mistral import custom_tools, reasoning
from serving.mistral.draft import Draft, Fields, objects_in

_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}").fullmatch

LATE_SYSTEM_WARNING = "system messages after an assistant's were moved to the front"
LAST_SYSTEM_WARNING = "a system message after the last of the assistant's became the user's"
CONTINUED_WARNING = "the last message is the assistant's: the answer continues it"
REASONING_WARNING = "this model does not reason: the reasoning of earlier turns was dropped"


def developer_is_system(draft: Draft) -> None:
    """Maps OpenAI's newer role name, "developer", to "system"."""
    for message in draft.objects("messages"):
        if message.get("role") == "developer":
            message["role"] = "system"
            draft.changed = True


def image_urls_and_refusals(draft: Draft) -> None:
    """Converts what vLLM does not know: `"image_url": "https://…"`, which Mistral's own API
    accepts, and an assistant's refusal, a part or the field beside `content`, which becomes
    text."""
    for message in draft.objects("messages"):
        if message.get("role") == "assistant" and type(message.get("refusal")) is str:
            refusal, content = message.pop("refusal"), message.get("content")
            if type(content) is list:
                content.append({"type": "text", "text": refusal})
            else:
                said = f"{content}\n\n" if type(content) is str and content else ""
                message["content"] = said + refusal
            draft.changed = True
        if type(message.get("content")) is not list:
            continue
        for part in objects_in(message["content"]):
            if type(part.get("image_url")) is str and part.get("type") == "image_url":
                part["image_url"] = {"url": part["image_url"]}
                draft.changed = True
            elif part.get("type") == "refusal" and type(part.get("refusal")) is str:
                part["type"], part["text"] = "text", part.pop("refusal")
                draft.changed = True


def calls_of_earlier_turns(draft: Draft) -> None:
    """Completes calls as Mistral's own API and its clients send them: without a type, and with
    their arguments as an object or left out. Calls of custom tools become calls of functions."""
    for message in draft.objects("messages"):
        if not message.get("tool_calls"):
            continue
        for call in objects_in(message["tool_calls"]):
            custom = call.get("custom") if call.get("type") == "custom" else None
            if type(custom) is dict and type(custom.get("input")) is str:
                written = custom_tools.arguments(custom["input"])
                call["type"] = "function"
                call["function"] = {"name": custom.get("name"), "arguments": written}
                del call["custom"]
                draft.changed = True
            function = call.get("function")
            if type(function) is not dict:
                continue
            if call.get("type") is None:
                call["type"] = "function"
                draft.changed = True
            arguments = function.get("arguments")
            if arguments is None or type(arguments) is dict:
                function["arguments"] = json.dumps(arguments or {}, ensure_ascii=False)
                draft.changed = True


def tool_results(draft: Draft) -> None:
    """Gives a result without content an empty one, and drops a function name that the tokenizer
    rejects: no tokenizer here puts the name into the prompt."""
    for message in draft.objects("messages"):
        if message.get("role") != "tool":
            continue
        if message.get("content") is None:
            message["content"] = ""
            draft.changed = True
        name = message.get("name")
        if type(name) is str and not _FUNCTION_NAME(name):
            del message["name"]
            draft.changed = True


def drop_redacted_thoughts(draft: Draft) -> None:
    """Drops the encrypted thoughts of Anthropic's models, which LiteLLM puts into the content."""
    for message in draft.objects("messages"):
        content = message.get("content")
        if message.get("role") != "assistant" or type(content) is not list:
            continue
        kept = [part for part in content if not _is(part, "redacted_thinking")]
        if len(kept) < len(content):
            message["content"] = kept
            draft.changed = True


def reasoning_of_earlier_turns(draft: Draft) -> None:
    """Handles `reasoning`, `reasoning_content` and thinking parts, which tokenizers before v13
    reject. v13 has tokens for them.

    For a reasoning model they return to where the model wrote them, as `<think>` text before the
    answer: Magistral's card leaves it to the client whether the next turn sees it, and a client
    that sends it wants it seen. Other models never saw such text, so it is dropped.
    """
    if draft.rules.tokenizer == "v13":
        _thoughts_as_text(draft)
        return
    for message in draft.objects("messages"):
        if message.get("role") != "assistant":
            continue
        thought = _take_reasoning(message)
        if thought is None:
            continue
        draft.changed = True
        if not thought:
            continue
        if draft.rules.thinks:
            message["content"] = _with_reasoning(thought, message.get("content"))
        else:
            draft.warn(REASONING_WARNING)


def _thoughts_as_text(draft: Draft) -> None:
    """Gives thinking parts the form of mistral-common, which has no list of texts in them."""
    for message in draft.objects("messages"):
        for part in objects_in(message.get("content")):
            if part.get("type") == "thinking" and type(part.get("thinking")) is list:
                part["thinking"] = _text_of(part["thinking"])
                draft.changed = True


def _take_reasoning(message: Fields) -> str | None:
    """Removes the reasoning from a message; returns None if there is none."""
    thoughts = []
    for key in ("reasoning", "reasoning_content"):
        if message.get(key) is not None:
            thoughts.append(_text_of(message.pop(key)))
    content = message.get("content")
    if type(content) is list:
        thinking = [part for part in content if _is(part, "thinking")]
        if thinking:
            thoughts += [_text_of(part.get("thinking")) for part in thinking]
            message["content"] = [part for part in content if not _is(part, "thinking")]
    if not thoughts:
        return None
    return "\n".join(dict.fromkeys(thought for thought in thoughts if thought))


def _is(part: Any, kind: str) -> bool:
    return type(part) is dict and part.get("type") == kind


def _text_of(thinking: Any) -> str:
    """Returns the text of a thinking part: a list of texts in Mistral's own API, a string in
    mistral-common."""
    if type(thinking) is str:
        return thinking
    texts = (part.get("text") for part in objects_in(thinking))
    return "".join(text for text in texts if type(text) is str)


def _with_reasoning(thought: str, content: Any) -> Any:
    head = reasoning.tagged(thought)
    if type(content) is list:
        first = content[0] if content else None
        if type(first) is dict and type(first.get("text")) is str:
            return [{**first, "text": head + first["text"]}, *content[1:]]
        return [{"type": "text", "text": head}, *content]
    return head + content if type(content) is str else head


def is_empty(message: Fields) -> bool:
    """Whether an assistant's turn has no content and no tool call."""
    if message.get("role") != "assistant" or message.get("tool_calls"):
        return False
    content = message.get("content")
    if type(content) is list:
        return all(
            type(part) is dict and part.get("type") == "text" and part.get("text") == ""
            for part in content
        )
    return content is None or content == ""


def drop_empty_turns(draft: Draft) -> None:
    """Drops assistant turns with content missing, null or "" and no tool call, which each tokenizer
    rejects; an answer that was all reasoning, or was stopped at once, leaves such turns. Beside
    tool calls all three are accepted, and give the same prompt.

    The tokenizer joins adjacent turns of the same role.
    """
    messages = draft.objects("messages")
    if any(is_empty(message) for message in messages):
        continues = draft.fields.get("continue_final_message") is True
        kept = [m for m in messages if not is_empty(m) or (continues and m is messages[-1])]
        draft.replace("messages", kept)


def move_late_system_messages(draft: Draft) -> None:
    """Moves a system message right after an assistant's or a tool's, which each tokenizer rejects,
    up to the system messages at the beginning. One that ends the chat after an assistant's, which
    it asks to go on, becomes the user's."""
    messages = draft.objects("messages")
    if not any(message.get("role") == "system" for message in messages[1:]):
        return
    for message in asks_last(messages):
        message["role"] = "user"
        draft.changed = True
        draft.warn(LAST_SYSTEM_WARNING)
    front: list[Fields] = []
    rest: list[Fields] = []
    role: Any = "system"
    for message in messages:
        previous, role = role, message.get("role")
        at_front = role == "system" and not rest
        if at_front or (role == "system" and previous in ("assistant", "tool")):
            front.append(message)
            role = previous
        else:
            rest.append(message)
    if [*front, *rest] != messages:
        draft.set("messages", [*front, *rest])
        draft.warn(LATE_SYSTEM_WARNING)


def asks_last(messages: list[Fields]) -> list[Fields]:
    """Returns the system messages at the end of a conversation if they stand after an answer of the
    assistant's."""
    end = len(messages)
    while end and messages[end - 1].get("role") in ("system", "developer"):
        end -= 1
    return messages[end:] if end and messages[end - 1].get("role") == "assistant" else []


def results_follow_their_calls(draft: Draft) -> None:
    """Moves a tool's result up to the other results of its turn if turns of the user's are between,
    which each tokenizer rejects: clients put the images of one result before the next."""
    messages = draft.objects("messages")
    moved: list[Fields] = []
    place: int | None = None  # behind the last calls and their results, if only users spoke since
    for message in messages:
        role = message.get("role")
        if role == "tool" and place is not None:
            moved.insert(place, message)
            place += 1
            continue
        moved.append(message)
        if message.get("tool_calls"):
            place = len(moved)
        elif role != "user":
            place = None
    draft.replace("messages", moved)


def images_of_results(draft: Draft) -> None:
    """Shows the model the images of tools' results behind the results, in a turn of the user's: no
    tokenizer takes images in a result."""
    messages = draft.objects("messages")
    if not any(_images(message) for message in messages if message.get("role") == "tool"):
        return
    moved: list[Fields] = []
    images: list[Fields] = []
    for message in messages:
        if message.get("role") != "tool":
            moved += _shown(images)
            images = []
        elif shown := _images(message):
            images += shown
            message["content"] = [part for part in message["content"] if part not in shown]
        moved.append(message)
    draft.set("messages", [*moved, *_shown(images)])


def _images(message: Fields) -> list[Fields]:
    content = message.get("content")
    return [part for part in objects_in(content) if part.get("type") == "image_url"]


def _shown(images: list[Fields]) -> list[Fields]:
    return [{"role": "user", "content": images}] if images else []


def continue_last_answer(draft: Draft) -> None:
    """Continues a last message of the assistant's, as Anthropic's API does, where the client says
    nothing about it: each tokenizer rejects such a chat otherwise."""
    messages = draft.objects("messages")
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls") or is_empty(last):
        return
    if "continue_final_message" not in draft.fields:
        draft.set("continue_final_message", True)
        draft.set("add_generation_prompt", False)
        draft.warn(CONTINUED_WARNING)

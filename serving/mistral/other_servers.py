"""What other OpenAI servers (Ollama, llama.cpp, LM Studio) do not know of OpenAI's API, and what
their answers lack of it."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from serving.mistral.draft import Draft, Fields, objects_in
from serving.mistral.reasoning import CLOSE, OPEN, reasoning_fields, tagged
from serving.mistral.tool_choice import name_of
from serving.mistral.tool_ids import nine_alphanumerics

_BETWEEN_TEXTS = "\n\n"
"""What mistral_common, which makes vLLM's prompts, puts between texts and turns that it joins."""

_LEAST_TOP_P = 1e-6
"""Less than the most probable token has in any vocabulary."""


def join_texts(draft: Draft) -> None:
    """Makes one text of a content that is a list of texts: llama.cpp's Python server writes the
    list itself into the prompt where the model's template expects a text."""
    for message in draft.objects("messages"):
        content = message.get("content")
        texts = [part["text"] for part in objects_in(content) if _is_text(part)]
        if texts and len(texts) == len(content or ()):
            message["content"] = _BETWEEN_TEXTS.join(texts)
            draft.changed = True


def _is_text(part: Fields) -> bool:
    return part.get("type") == "text" and type(part.get("text")) is str


def join_user_turns(draft: Draft) -> None:
    """Joins turns of the user that follow each other: templates of Mistral's models refuse them."""
    joined: list[Fields] = []
    for message in draft.objects("messages"):
        if joined and _is_user_text(message) and _is_user_text(joined[-1]):
            text = joined[-1]["content"] + _BETWEEN_TEXTS + message["content"]
            joined[-1] = joined[-1] | {"content": text}
        else:
            joined.append(message)
    if len(joined) < len(draft.objects("messages")):
        draft.set("messages", joined)


def _is_user_text(message: Fields) -> bool:
    return message.get("role") == "user" and type(message.get("content")) is str


def use_max_tokens(draft: Draft) -> None:
    """Gives the limit on the answer by its older name: Ollama ignores `max_completion_tokens`."""
    if "max_completion_tokens" in draft.fields:
        draft.set("max_tokens", draft.fields["max_completion_tokens"])
        draft.drop("max_completion_tokens")


def raise_top_p_of_zero(draft: Draft) -> None:
    """Asks for the most probable token by a tiny `top_p` in place of 0, which vLLM refuses."""
    if draft.fields.get("top_p") == 0 and draft.fields["top_p"] is not False:
        draft.set("top_p", _LEAST_TOP_P)


def require_named_tool(draft: Draft) -> None:
    """Asks for any call of one tool in place of the call of a named one: LM Studio refuses a choice
    that is an object, and llama.cpp ignores it."""
    choice = draft.fields.get("tool_choice")
    if type(choice) is not dict:
        return
    tools = [t for t in objects_in(draft.fields.get("tools")) if name_of(t) == name_of(choice)]
    if tools:
        draft.set("tools", tools)
        draft.set("tool_choice", "required")


def expect_calls(draft: Draft) -> None:
    """Remembers that the answer may have calls, which may lack something."""
    draft.incomplete_calls = bool(draft.fields.get("tools"))


class ReasoningField:
    """Moves the reasoning that a server split off, in `reasoning_content` or `reasoning`, to where
    the client expects it: to `reasoning`, or back into the content. One for each choice."""

    def __init__(self, separate: bool) -> None:
        self._separate = separate
        self._inside = False

    def move(self, message: Fields, finish_reason: Any, is_delta: bool) -> bool:
        """Changes a message or a delta. Returns whether it did."""
        taken = [message.pop(name, None) for name in ("reasoning_content", "reasoning")]
        reasoning = next((text for text in taken if type(text) is str and text), "")
        if self._separate:
            if reasoning:
                message.update(reasoning_fields(reasoning))
            return bool(reasoning)
        content = message.get("content") or ""
        cut_off = finish_reason == "length" and not content
        if not is_delta:
            if reasoning:
                text = tagged(reasoning) + content
                message["content"] = f"{OPEN}\n{reasoning}" if cut_off else text
            return bool(reasoning)
        text = content
        if reasoning:
            text = reasoning if self._inside else f"{OPEN}\n{reasoning}"
            self._inside = True
        if self._inside and not cut_off and (content or finish_reason is not None):
            text = (text if reasoning else "") + f"\n{CLOSE}\n{content}"
            self._inside = False
        if text != content:
            message["content"] = text
        return text != content or any(taken)


@dataclass(slots=True)
class CallFields:
    """Gives calls what OpenAI's API promises: an id, a type, an index of their own in a stream, and
    arguments as text. One for each choice."""

    _ids: list[str] = field(default_factory=list)
    """The ids of the calls so far."""
    _ours: dict[Any, int] = field(default_factory=dict)
    """Our index of a call by the server's."""

    def complete(self, message: Fields, answer_id: str, is_delta: bool) -> bool:
        """Changes a message or a delta. Returns whether it did."""
        before = msgspec.json.encode(message.get("tool_calls"))
        for call in objects_in(message.get("tool_calls")):
            function = call.get("function")
            if type(function) is not dict:
                continue
            if type(function.get("arguments")) is dict:
                function["arguments"] = msgspec.json.encode(function["arguments"]).decode()
            if not is_delta or self._begins(call, function):
                self._begin(call, answer_id)
            if is_delta:
                call["index"] = self._ours.get(call.get("index"), max(len(self._ids) - 1, 0))
        return before != msgspec.json.encode(message.get("tool_calls"))

    def _begins(self, call: Fields, function: Fields) -> bool:
        if not function.get("name"):
            return False
        ours = self._ours.get(call.get("index"))
        return ours is None or call.get("id", "") not in ("", None, self._ids[ours])

    def _begin(self, call: Fields, answer_id: str) -> None:
        number = len(self._ids)
        self._ours[call.get("index")] = number
        if not call.get("id"):
            call["id"] = nine_alphanumerics(f"{answer_id}:{number}")
        call.setdefault("type", "function")
        self._ids.append(call["id"])


@dataclass(slots=True)
class HeldCalls:
    """Holds the pieces of streamed calls back until the end, for clients that take them only
    whole. One for each choice."""

    _calls: dict[Any, Fields] = field(default_factory=dict)
    """The calls so far by their index."""

    def hold(self, message: Fields, ended: bool) -> bool:
        """Takes the pieces out of a delta, and gives all calls to the last one. Returns whether it
        was changed."""
        pieces = objects_in(message.pop("tool_calls", None))
        for piece in pieces:
            call = self._calls.setdefault(piece.get("index"), piece)
            function, more = call.get("function"), piece.get("function")
            if call is not piece and type(function) is dict and type(more) is dict:
                arguments = function.get("arguments") or "", more.get("arguments") or ""
                function["arguments"] = "".join(map(str, arguments))
        if ended and self._calls:
            message["tool_calls"] = list(self._calls.values())
        return bool(pieces or (ended and self._calls))

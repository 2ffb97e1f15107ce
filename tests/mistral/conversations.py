"""Hypothesis strategies for requests of clients of OpenAI's API.

A conversation is built from one draw of bytes, each of which decides one thing. That takes a tenth
of the time of as many draws, so ten thousand conversations take a minute, and zeros, to which
Hypothesis shrinks, are the plainest choice everywhere.
"""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st
from PIL import Image

Message = dict[str, Any]
T = TypeVar("T")


def _png(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


IMAGES = (_png(1, 1), _png(30, 20), _png(28, 57))
TEXTS = (
    "Hello",
    "",
    " ",
    "\n",
    "<think>\nhm\n</think>\n7",
    "<think>",
    "[INST]",
    "[TOOL_CALLS]",
    "</s>",
    "\u65e5\u672c\U0001f38c\u0645\u0631\u062d\u0628\u0627",
    "e\u0301 \u200b\x00",
)
IDS = (
    "bbc5b7ede",
    "VvvODy9mT",
    "000000000",
    "call_8Yx2LmN4pQrStUvW",
    "call_9Yx2LmN4pQrStUvW",
    "toolu_01A09q90qw90lq917835lq9",
    "chatcmpl-tool-0123456789abcdef",
    "a1",
    "",
    "null",
    "get-weather_1",
    "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9",
)
NAMES = ("get_weather", "f", "A-1", "x" * 64)
ARGUMENTS = ("{}", "", '{"city": "Paris"}', '{"expression": "6 + 2 \u00d7 3"}', "not JSON", "[")
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {}, "description": "does"}}
    for name in NAMES
]


class Choices:
    """Decisions derived from bytes, and the texts that Hypothesis generated."""

    def __init__(self, data: bytes, texts: list[str]) -> None:
        self._data = iter(data)
        self.texts = (*TEXTS, *texts)
        self.ids = (*IDS, *texts)

    def pick(self, options: Sequence[T]) -> T:
        return options[next(self._data, 0) % len(options)]

    def below(self, limit: int) -> int:
        return next(self._data, 0) % limit

    def text(self) -> str:
        return self.pick(self.texts)

    def parts(self, kind: str = "text") -> list[Message]:
        return [{"type": kind, kind: self.text()} for _ in range(self.below(3))]

    def user(self) -> Message:
        parts: list[Message] = []
        for part in self.parts() if self.below(3) == 2 else ():
            url: Any = self.pick(IMAGES)
            parts.append(part)
            if self.below(2):
                image_url = {"url": url} if self.below(3) else url
                parts.append({"type": "image_url", "image_url": image_url})
        return {"role": "user", "content": parts or self.text()}

    def system(self) -> Message:
        content = self.parts() if self.below(3) == 2 else self.text()
        return {"role": self.pick(("system", "developer")), "content": content}

    def assistant(self) -> Message:
        """Returns a turn without calls: text, parts, reasoning, or nothing at all."""
        message: Message = {"role": "assistant"}
        content: Callable[[], Any] | None = self.pick(
            (self.text, self.text, self.parts, lambda: self.parts("refusal"), lambda: None, None)
        )
        if content is not None:
            message["content"] = content()
        if self.below(4) == 3:
            message[self.pick(("reasoning", "reasoning_content"))] = self.pick((None, self.text()))
        if self.below(8) == 7:
            message["tool_calls"] = self.pick(([], None))
        return message

    def tool_turn(self) -> list[Message]:
        """Returns an assistant's calls and a result for each of them, in any order."""
        ids = list(dict.fromkeys(self.pick(self.ids) for _ in range(1 + self.below(3))))
        calls = [
            {
                "id": tool_id,
                "type": "function",
                "function": {"name": self.pick(NAMES), "arguments": self.pick(ARGUMENTS)},
            }
            for tool_id in ids
        ]
        results = [self.result(tool_id) for tool_id in ids]
        if self.below(2):
            results.reverse()
        return [self.assistant() | {"tool_calls": calls}, *results]

    def result(self, tool_id: str) -> Message:
        message: Message = {"role": "tool", "tool_call_id": tool_id}
        content: Callable[[], Any] | None = self.pick(
            (self.text, self.text, self.parts, lambda: None, None)
        )
        if content is not None:
            message["content"] = content()
        if self.below(3) == 2:
            message["name"] = self.pick((*NAMES, "server.tool"))
        return message

    def turn(self) -> list[Message]:
        kind = self.below(5)
        if kind == 0:
            return [self.user()]
        if kind == 1:
            return [self.user(), self.assistant()]
        if kind == 2:
            return [self.user(), *self.tool_turn()]
        if kind == 3:
            return [self.user(), *self.tool_turn(), self.assistant()]
        return [self.user(), self.assistant(), self.system()]


def conversation(data: bytes, texts: list[str]) -> Message:
    """Returns messages, with or without tools, that OpenAI's API accepts, with the ids, empty
    turns, roles and parts that its clients and those of other services send."""
    choices = Choices(data, texts)
    messages = [choices.system()] if choices.below(3) == 2 else []
    for _ in range(choices.below(4)):
        messages += choices.turn()
    body: Message = {"messages": [*messages, choices.user()]}
    if choices.below(2):
        body["tools"] = TOOLS[: 1 + choices.below(len(TOOLS))]
    return body


CONVERSATIONS = st.builds(
    conversation, st.binary(min_size=100, max_size=100), st.lists(st.text(max_size=12), max_size=2)
)

_KEYS = (
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "id",
    "tool_call_id",
    "call_id",
    "image_url",
    "refusal",
    "reasoning",
    "thinking",
    "name",
    "output",
    "effort",
    "mode",
    "allowed_tools",
    "tools",
    "function",
    "arguments",
    "prefix",
    "parameters",
    "$ref",
)
_WORDS = (
    "system",
    "user",
    "assistant",
    "tool",
    "developer",
    "text",
    "refusal",
    "image_url",
    "thinking",
    "tool_use",
    "tool_result",
    "function_call",
    "function_call_output",
    "message",
    "none",
    "low",
    "enabled",
    "function",
    "allowed_tools",
    "required",
    "any",
    "n" * 100,
)
_FIELDS = (
    "messages",
    "input",
    "max_tokens",
    "max_output_tokens",
    "tools",
    "tool_choice",
    "chat_template_kwargs",
    "reasoning_effort",
    "output_config",
    "thinking",
    "system",
    "repetition_detection",
    "prompt",
    "functions",
    "include",
    "output_format",
    "seed",
    "random_seed",
    "text",
    "verbosity",
)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(TEXTS),
        st.sampled_from(_WORDS),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    ),
    max_leaves=12,
)
"""Any JSON, with the names and words of the APIs; NaN, infinities and integers of any size too."""
BODIES = st.dictionaries(st.sampled_from(_FIELDS), JSON, max_size=4)
"""JSON objects with a request's fields and arbitrary values."""

"""The grammar of an answer that may call tools or must be JSON, in llguidance's dialect of Lark.
For tokenizers from v11 on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_ANY_OBJECT: dict[str, Any] = {"type": "object"}
_NO_ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}
_BOUNDED_WHITE_SPACE = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
}
"""llguidance's options for one schema. JSON's own white space has no bound, so a model can write it
until it reaches `max_tokens`; models were trained on the single spaces of Python's `json`."""


@dataclass(frozen=True, slots=True)
class CallableTool:
    """A tool that the answer may call."""

    name: str
    parameters: Mapping[str, Any] | None
    """The JSON schema of its arguments."""
    strict: bool
    """Whether arguments must obey the schema; else they are any object."""


@dataclass(frozen=True, slots=True)
class CallTokens:
    """Ids of the tokenizer's control tokens that begin a call's name and its arguments."""

    tool_calls: int
    args: int


def answer_grammar(
    tools: Sequence[CallableTool],
    choice: Literal["auto", "required"],
    parallel: bool,
    text_schema: Mapping[str, Any] | None,
    tokens: CallTokens,
) -> str:
    """Returns the grammar of an answer that calls only the given tools.

    With "auto" the answer is text, calls or text before calls; with a `text_schema` JSON that obeys
    it or calls. With "required" it is calls alone. Without `parallel` there is one call. Without
    tools the answer is JSON of the `text_schema`.
    """
    assert tools or text_schema is not None
    forms = []
    if text_schema is not None and choice == "auto":
        forms.append(_json(text_schema))
    elif choice == "auto":
        forms.append("text")
    if tools:
        forms.append("calls" if "text" not in forms else "text? calls")
    lines = [f"start: {' | '.join(forms)}"]
    if "text" in forms:
        lines.append(r"text: /(.|\n)+/")
    if tools:
        lines.append("calls: call+" if parallel else "calls: call")
        lines.append("call: " + " | ".join(_call(tool, tokens) for tool in tools))
    return "\n".join(lines) + "\n"


def _call(tool: CallableTool, tokens: CallTokens) -> str:
    schema = _ANY_OBJECT
    if tool.strict:
        schema = dict(tool.parameters or _NO_ARGUMENTS)
    return f"<[{tokens.tool_calls}]> {json.dumps(tool.name)} <[{tokens.args}]> {_json(schema)}"


def _json(schema: Mapping[str, Any]) -> str:
    own = schema.get("x-guidance", {})
    return "%json " + json.dumps({**schema, "x-guidance": _BOUNDED_WHITE_SPACE | own})

"""The grammar of an answer that may call tools or must be JSON, in llguidance's dialect of Lark."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.mistral.enforceable import enforceable

Choice = Literal["auto", "required"]

_ANY_OBJECT: dict[str, Any] = {"type": "object"}
_NO_ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}
_JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""llguidance's options for one schema: the white space of Python's `json`, with which Mistral's
models were trained. JSON's own has no bound, so that a model can write it until `max_tokens`."""


@dataclass(frozen=True, slots=True)
class CallableTool:
    """A tool that the answer may call."""

    name: str
    parameters: Mapping[str, Any] | None
    """The JSON schema of its arguments."""
    strict: bool
    """Whether arguments must always obey the schema. Those of other tools obey it in a required
    call, as far as llguidance knows its keywords and regular expressions, and else are any
    object."""


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """Ids of the tokenizer's control tokens that give an answer its structure."""

    tool_calls: int
    """Begins a call."""
    args: int | None
    """Begins a call's arguments; None for tokenizer v7, which has calls as one JSON array."""
    reasoning: tuple[int, int] | None = None
    """The tokens around reasoning, if the answer may begin with it."""


def answer_grammar(
    tools: Sequence[CallableTool],
    choice: Choice,
    parallel: bool,
    text_schema: Mapping[str, Any] | None,
    tokens: ControlTokens,
    lenient: bool = False,
) -> str:
    """Returns the grammar of an answer that calls only the given tools.

    With "auto" the answer is text, calls or text before calls; with a `text_schema` JSON that obeys
    it or calls, or without tools JSON alone. With "required" it is calls alone. Without `parallel`
    there is one call. Reasoning may come before any of these. A `lenient` text obeys its schema as
    far as llguidance knows the keywords.
    """
    assert tools or text_schema is not None, "nothing restricts the answer"
    forms = []
    if text_schema is not None and choice == "auto":
        forms.append(_json(text_schema, lenient))
    elif choice == "auto":
        forms.append("text")
    if tools:
        forms.append("calls" if "text" not in forms else "text? calls")
    lines = [f"start: {' | '.join(forms)}"]
    if tokens.reasoning is not None:
        begin, end = tokens.reasoning
        lines = [
            f"start: reasoning? ({' | '.join(forms)})",
            f"reasoning: <[{begin}]> text? <[{end}]>",
        ]
    if tokens.reasoning is not None or "text" in forms:
        lines.append(r"text: /(.|\n)+/")
    if tools:
        written = _call_v7 if tokens.args is None else _call
        lines.append(_calls(parallel, tokens))
        lines.append("call: " + " | ".join(written(tool, choice, tokens) for tool in tools))
    return "\n".join(lines) + "\n"


def _calls(parallel: bool, tokens: ControlTokens) -> str:
    if tokens.args is not None:
        return "calls: call+" if parallel else "calls: call"
    further = '(", " call)* ' if parallel else ""
    return f'calls: <[{tokens.tool_calls}]> "[" call {further}"]"'


def _call(tool: CallableTool, choice: Choice, tokens: ControlTokens) -> str:
    name = json.dumps(tool.name)
    return f"<[{tokens.tool_calls}]> {name} <[{tokens.args}]> {_arguments(tool, choice)}"


def _call_v7(tool: CallableTool, choice: Choice, tokens: ControlTokens) -> str:
    name = json.dumps(f'{{"name": {json.dumps(tool.name)}, "arguments": ')
    call_id = r'(", \"id\": \"" /[a-zA-Z0-9]{9}/ "\"")?'
    return f'{name} {_arguments(tool, choice)} {call_id} "}}"'


def _arguments(tool: CallableTool, choice: Choice) -> str:
    return "%json " + json.dumps(arguments_schema(tool, choice))


def arguments_schema(tool: CallableTool, choice: Choice) -> dict[str, Any]:
    """Returns the schema of a call's arguments, which are an object whatever else their schema
    allows, with llguidance's options."""
    if tool.strict:
        return _styled({**(tool.parameters or _NO_ARGUMENTS), "type": "object"}, lenient=False)
    if choice == "required" and tool.parameters:
        return _styled({**tool.parameters, "type": "object"}, lenient=True)
    return _styled(_ANY_OBJECT, lenient=False)


def answer_schema(schema: Mapping[str, Any], lenient: bool = False) -> str:
    """Returns the schema of an answer that is JSON alone, as JSON, with llguidance's options for
    its white space; those that it has itself hold. With `lenient` keywords that llguidance does not
    know are ignored."""
    return json.dumps(_styled(schema, lenient))


def _json(schema: Mapping[str, Any], lenient: bool = False) -> str:
    return "%json " + answer_schema(schema, lenient)


def _styled(schema: Mapping[str, Any], lenient: bool) -> dict[str, Any]:
    own = schema.get("x-guidance")
    style = _JSON_STYLE | ({"lenient": True} if lenient else {})
    if isinstance(own, Mapping):
        style |= own
    return {**enforceable(schema), "x-guidance": style}

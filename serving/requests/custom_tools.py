"""The formats that custom tools of OpenAI's APIs have for their input, which is a text."""

import re
from typing import Any

from serving.mistral.custom_tools import parameters
from serving.mistral.rules import InvalidRequest
from serving.requests.places import wrong_type
from serving.requests.request import JsonObject

_REGEX_TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.?|[^\]\\])*(?:\]|\Z)|.", re.DOTALL)
"""The parts of a regular expression: an escaped character, a class, or any other character. A class
that does not end is one too: else each of its brackets would be searched for an end."""


def input_parameters(format: Any, path: str) -> JsonObject:
    """Returns the JSON schema of the arguments of a custom tool: an object with its input. A
    regular expression is enforced; a Lark grammar, which no JSON schema can hold, is described."""
    text: JsonObject = {"type": "string", "description": "The tool's input, as plain text."}
    if format is not None and not isinstance(format, dict):
        raise wrong_type(f"{path}.format", "an object")
    definition = format.get("definition") if format is not None else None
    match format:
        case None | {"type": "text"}:
            pass
        case {"type": "grammar", "syntax": "regex"}:
            text["pattern"] = f"^(?:{_without_anchors(_text(definition, path))})$"
        case {"type": "grammar", "syntax": "lark"}:
            grammar = _text(definition, path)
            text["description"] += f" It must match this Lark grammar:\n{grammar}"
        case _:
            raise InvalidRequest(
                f"{path}.format is not supported: leave it out, or send a grammar with the syntax "
                '"regex" or "lark".',
                param="tools",
                code="unsupported_parameter",
            )
    return parameters(text)


def _without_anchors(expression: str) -> str:
    """Returns a regular expression that all of an input must match, without the anchors around its
    alternatives, which say the same, and which llguidance refuses within a group."""
    tokens = _REGEX_TOKENS.findall(expression)
    kept: list[str] = []
    depth = 0
    for before, token, after in zip(["|", *tokens], tokens, [*tokens[1:], "|"], strict=False):
        depth += (token == "(") - (token == ")")
        anchors = (token == "^" and before == "|") or (token == "$" and after == "|")
        if depth or not anchors:
            kept.append(token)
    return "".join(kept)


def _text(definition: Any, path: str) -> str:
    if not isinstance(definition, str):
        raise wrong_type(f"{path}.format.definition", "a string")
    return definition

"""Which functions of OpenAI's Responses API are strict: there, unlike in its chat completions,
those whose schema is fit for it are so unless the client says otherwise."""

import re
from collections.abc import Sequence
from typing import Any

from serving.requests.request import JsonObject

_MOST_LEVELS = 10
"""Levels of a schema, as OpenAI's API has it."""

_KEYWORDS = {
    *("$ref", "$defs", "definitions", "type", "enum", "const", "anyOf"),
    *("properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("pattern", "format", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("$schema", "title", "description", "default", "examples"),
}
"""What OpenAI's strict schemas may have, and annotations."""
_MEANINGS = ("type", "$ref", "anyOf", "enum", "const")
_FORMATS = [
    *("date-time", "time", "date", "duration"),
    *("email", "hostname", "ipv4", "ipv6", "uuid"),
]
_REFERENCE = re.compile(r"#(/(\$defs|definitions)/[^/]+)?").fullmatch
_LOOKS_AROUND = re.compile(r"\(\?(<?[=!])|\\[1-9]").search
"""Finds what no grammar can hold an answer to."""


def with_strictness(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Returns tools whose functions, also those of namespaces, say whether they are strict."""
    return [_decided(tool) for tool in tools]


def _decided(tool: JsonObject) -> JsonObject:
    if tool.get("type") == "namespace" and isinstance(tool.get("tools"), list):
        inner = [_decided(one) if isinstance(one, dict) else one for one in tool["tools"]]
        return {**tool, "tools": inner}
    if tool.get("type") != "function" or tool.get("strict") is not None:
        return tool
    schema = tool.get("parameters")
    fit = isinstance(schema, dict) and schema.get("type") == "object" and _is_fit(schema, 0)
    return {**tool, "strict": fit}


def _is_fit(schema: Any, level: int) -> bool:
    """Whether a schema leaves nothing open: no object that it describes has further or optional
    properties."""
    if not isinstance(schema, dict) or not schema.keys() <= _KEYWORDS or level > _MOST_LEVELS:
        return False
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    properties = schema.get("properties", {})
    parts = [properties, schema.get("$defs", {}), schema.get("definitions", {})]
    options = schema.get("anyOf", [])
    if not isinstance(options, list) or not all(isinstance(part, dict) for part in parts):
        return False
    further = [schema["items"]] if "items" in schema else []
    if "object" in kinds and not _is_closed(schema, properties):
        return False
    return (
        any(key in schema for key in _MEANINGS)
        and ("array" not in kinds or "items" in schema)
        and schema.get("format", _FORMATS[0]) in _FORMATS
        and _REFERENCE(str(schema.get("$ref", "#"))) is not None
        and _LOOKS_AROUND(str(schema.get("pattern", ""))) is None
        and all(
            _is_fit(one, level + 1)
            for one in (*options, *further, *(one for part in parts for one in part.values()))
        )
    )


def _is_closed(schema: JsonObject, properties: JsonObject) -> bool:
    required = schema.get("required", [])
    return (
        schema.get("additionalProperties") is False
        and isinstance(required, list)
        and properties.keys() <= {name for name in required if isinstance(name, str)}
    )

"""The OpenAPI description of the router's endpoints, as far as FastAPI does not make it."""

from typing import Annotated, Any

from fastapi import Query

from serving.router.http.errors import is_anthropics, wrong_value

_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role"]}}
_TEXT_OR_ITEMS = {"anyOf": [{"type": "string"}, {"type": "array"}]}
_TOKENS = {"type": ["integer", "null"], "minimum": 1}
_TOOLS = {"type": ["array", "null"], "items": {"type": "object"}}

_ENDPOINTS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "/v1/chat/completions": (
        "OpenAI's chat completions",
        {"messages": _MESSAGES, "tools": _TOOLS, "max_tokens": _TOKENS},
        ["messages"],
    ),
    "/v1/completions": (
        "OpenAI's completions",
        {"prompt": _TEXT_OR_ITEMS, "max_tokens": _TOKENS},
        ["prompt"],
    ),
    "/v1/responses": (
        "OpenAI's responses",
        {
            "input": _TEXT_OR_ITEMS,
            "tools": _TOOLS,
            "max_output_tokens": _TOKENS,
            "previous_response_id": {
                "type": ["string", "null"],
                "description": "A stored response whose input and output stand before the input.",
            },
            "store": {"type": ["boolean", "null"], "default": True},
            "background": {
                "type": ["boolean", "null"],
                "description": "Answers at once, or with stream goes on without the client; "
                "GET /v1/responses/{id} has what becomes of it.",
            },
        },
        [],
    ),
    "/v1/responses/input_tokens": (
        "The number of tokens of a response's prompt",
        {
            "input": _TEXT_OR_ITEMS,
            "tools": _TOOLS,
            "previous_response_id": {"type": ["string", "null"]},
        },
        ["input"],
    ),
    "/v1/messages": (
        "Anthropic's messages",
        {"messages": _MESSAGES, "tools": _TOOLS, "max_tokens": _TOKENS},
        ["messages", "max_tokens"],
    ),
    "/v1/messages/count_tokens": (
        "The number of tokens of a prompt, in Anthropic's format",
        {"messages": _MESSAGES, "tools": _TOOLS},
        ["messages"],
    ),
    "/tokenize": (
        "The token ids of a text or a conversation",
        {"prompt": {"type": "string"}, "messages": _MESSAGES},
        [],
    ),
    "/detokenize": (
        "The text of token ids",
        {"tokens": {"type": "array", "items": {"type": "integer"}}},
        ["tokens"],
    ),
}
"""The summary of each endpoint's body, its main properties, and which of them are required."""

RELAYED = frozenset(_ENDPOINTS)
"""Paths whose POST requests are relayed to an engine of the model named in the body."""

_STREAMED = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"}
_SAMPLING = {
    "stream": {"type": ["boolean", "null"]},
    "temperature": {"type": ["number", "null"], "minimum": 0},
    "top_p": {"type": ["number", "null"]},
}
_TEXT = {"type": "string"}
_NULLABLE_TEXT = {"type": ["string", "null"]}
_SCHEMAS = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type"],
                "properties": {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": _NULLABLE_TEXT,
                    "code": _NULLABLE_TEXT,
                },
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": _TEXT, "message": _TEXT},
            },
            "request_id": _NULLABLE_TEXT,
        },
    },
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
}
_ERRORS = {
    "4XX": "The request is wrong, or (429, with Retry-After) the service is overloaded.",
    "5XX": "The service cannot answer now (503, with Retry-After), or failed.",
}

Order = Annotated[str, Query(json_schema_extra={"enum": ["asc", "desc"]})]
"""The query parameter for the order of a list."""


def whole_number(most: int) -> Any:
    """Describes a query parameter as a number from 1 to `most`. Its endpoint takes it as text, so
    that the error for a wrong one is ours."""
    return Query(json_schema_extra={"type": "integer", "minimum": 1, "maximum": most})


def limit_of(text: str, most: int) -> int:
    """Returns the number of a query parameter `limit`. Raises ApiError 400."""
    if not (text.isdecimal() and len(text) < 6 and 1 <= int(text) <= most):
        raise wrong_value("limit", f"a whole number from 1 to {most}")
    return int(text)


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """Completes FastAPI's document of the router's own endpoints: with the relayed ones, and with
    the errors that all have. Of requests that are relayed the schemas have the main properties
    only; all that the engine knows is accepted."""
    paths: dict[str, dict[str, Any]] = document["paths"]
    for path in _ENDPOINTS:
        paths.setdefault(path, {})["post"] = _operation(path)
    for path, operations in paths.items():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI's: parameters are all texts
            operation["responses"] |= _error_responses(path)
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                if schema.get("type") == "integer":
                    schema["default"] = int(schema["default"])
    document["components"] = {"schemas": _SCHEMAS, "securitySchemes": _SECURITY}
    document["security"] = [{}, *({name: []} for name in _SECURITY)]
    return document


def body_of(
    content_type: str, required: dict[str, Any], **optional: dict[str, Any]
) -> dict[str, Any]:
    """Describes the body of an endpoint by the schemas of its properties."""
    schema = {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }
    return {"requestBody": {"required": True, "content": {content_type: {"schema": schema}}}}


def _operation(path: str) -> dict[str, Any]:
    summary, properties, required = _ENDPOINTS[path]
    streamed = path in _STREAMED
    model = {"type": ["string", "null"], "description": "An id or alias of /v1/models."}
    properties = {"model": model, **properties, **(_SAMPLING if streamed else {})}
    schema = {"type": "object", "properties": properties, "required": required}
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streamed:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "The answer.", "content": answer}},
    }


def _error_responses(path: str) -> dict[str, Any]:
    name = "AnthropicError" if is_anthropics(path) else "Error"
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {status: {"description": text, "content": content} for status, text in _ERRORS.items()}

"""Errors in the envelopes of OpenAI's APIs and of Anthropic's."""

from typing import Any


def openai_error(
    message: str, status: int, param: str | None = None, code: str | int | None = None
) -> dict[str, Any]:
    """Returns the body of an error of that HTTP status. In an event of a stream `code` is the
    status, by which the router tells failures of the engine from those of the request."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_error(message: str, status: int) -> dict[str, Any]:
    """Returns the body of an error of that HTTP status in the envelope of Anthropic's API."""
    kind = "invalid_request_error" if status < 500 else "api_error"
    error = {"type": _ANTHROPIC_TYPES.get(status, kind), "message": message}
    return {"type": "error", "error": error}

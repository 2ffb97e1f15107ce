"""Errors as Anthropic's API tells them."""

from typing import Any

from serving.mistral.context_length import in_anthropics_words

_TYPES = {
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
    """Returns the body of an error of that HTTP status."""
    default = "invalid_request_error" if status < 500 else "api_error"
    error = {"type": _TYPES.get(status, default), "message": in_anthropics_words(message)}
    return {"type": "error", "error": error}

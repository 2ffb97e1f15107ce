"""Errors in the envelope of OpenAI's APIs."""

from typing import Any


def openai_error(
    message: str, status: int, param: str | None = None, code: str | int | None = None
) -> dict[str, Any]:
    """Returns the body of an error of that HTTP status. In an event of a stream `code` is the
    status, by which the router tells failures of the engine from those of the request."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}

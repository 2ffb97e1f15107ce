"""Response objects that the router makes itself: of responses that run in the background."""

import json
from typing import Any

import msgspec

JsonObject = dict[str, Any]

_DEFAULTS: JsonObject = {
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "auto",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that a response repeats, and what they are by default."""

_CODES = {429: "rate_limit_exceeded"}

_decode = msgspec.json.Decoder().decode


def queued(request: JsonObject, response_id: str, model: str, created_s: int) -> JsonObject:
    """Returns the response to a request that has just been accepted."""
    repeated = {
        name: default if request.get(name) is None else request[name]
        for name, default in _DEFAULTS.items()
    }
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_s,
        "model": model,
        **repeated,
        "background": True,
        "status": "queued",
        "error": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }


def cancelled(response: JsonObject) -> JsonObject:
    return {**response, "status": "cancelled"}


def failed(response: JsonObject, message: str, status: int = 500) -> JsonObject:
    """Returns the response after an error of that HTTP status."""
    default = "server_error" if status >= 500 else "invalid_prompt"
    error = {"code": _CODES.get(status, default), "message": message}
    return {**response, "status": "failed", "error": error}


def ended(response: JsonObject, status: int, body: bytes) -> JsonObject:
    """Returns the response after the answer that another client would have been sent."""
    answer = parsed(body)
    if status == 200 and isinstance(answer.get("status"), str):
        return with_identity(response, answer)
    error = answer.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return failed(response, str(message or "The engine gave no answer."), max(status, 400))


def with_identity(response: JsonObject, answer: JsonObject) -> JsonObject:
    """Returns an engine's answer as that of the response."""
    own = ("id", "created_at", "background", "previous_response_id")
    return answer | {name: response[name] for name in own}


def parsed(body: bytes) -> JsonObject:
    """Parses a JSON object; returns an empty one if `body` holds anything else."""
    try:
        value = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value).encode()

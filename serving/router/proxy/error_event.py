"""Recognises the event with which an engine ends a stream that it failed on."""

from typing import Any

import msgspec

from serving.router.replicas.upstream import UpstreamError

_DATA = b'data: {"error"'
_NAMED = b"event: error\n"
_MARKS = {"/v1/responses": _NAMED, "/v1/messages": _NAMED}
_ENGINES_OWN = frozenset(("server_error", "api_error", "overloaded_error", "timeout_error"))
"""Codes of /v1/responses and types of /v1/messages that stand for a status of 500 or above."""

_decode = msgspec.json.Decoder().decode


class EngineError(UpstreamError):
    """The engine reported an error within a stream: it is dead, or the request made it fail."""


def error_mark(path: str) -> bytes:
    """Returns the bytes by which an error event in a stream of `path` is known. Generated text
    cannot contain them, as its quotes and line breaks are escaped."""
    return _MARKS.get(path, _DATA)


def raise_engine_error(events: bytes, mark: bytes) -> None:
    """Raises EngineError if the engine reports a failure of its own, not an invalid request."""
    if (at := events.find(mark)) < 0:
        return
    data = events[events.find(b"data: ", at) + 6 :].split(b"\n\n")[0]
    try:
        kind = _kind(_decode(data))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return
    if kind in _ENGINES_OWN or (isinstance(kind, int) and kind >= 500):
        raise EngineError(f"the engine reports an error {kind} within the stream")


def _kind(event: Any) -> int | str:
    """Returns the status of the error where its event has it, or else the API's name for it."""
    if "error" not in event:
        return str(event["code"])
    error = event["error"]
    return str(error["type"]) if event.get("type") == "error" else int(error["code"])

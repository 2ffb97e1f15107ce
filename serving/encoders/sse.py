"""JSON and server-sent events as bytes."""

from typing import Any

import msgspec

to_json = msgspec.json.Encoder().encode

DONE = b"data: [DONE]\n\n"


def event(data: Any, name: str | None = None) -> bytes:
    """Returns a server-sent event of JSON data, with a `name` in the APIs whose events have one."""
    if name is None:
        return b"data: " + to_json(data) + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + to_json(data) + b"\n\n"

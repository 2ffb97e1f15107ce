"""Decodes the JSON bodies of requests."""

import re
from typing import TypeVar

import msgspec

from serving.mistral.rules import InvalidRequest

T = TypeVar("T")

_MISSING = re.compile(r"^Object missing required field `(\w+)`$")
_PATH = re.compile(r" - at `(?:key` in `)?\$\.?(.*)`$")


def decode(body: bytes, type: type[T]) -> T:
    """Decodes a body as a msgspec type, whose unknown fields are ignored; numbers may be strings.
    Raises InvalidRequest that names the field."""
    try:
        return msgspec.json.decode(body, type=type, strict=False)
    except msgspec.ValidationError as error:
        message = str(error)
        path = _PATH.search(message)
        param = path[1] if path else ""
        what = message[: path.start()] if path else message
        if missing := _MISSING.match(message):
            param, what = missing[1], "the field is missing"
        raise InvalidRequest(
            f"{param}: {what}." if param else f"{what}.",
            param=re.split(r"[.\[]", param)[0] or None,
            code="invalid_type",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(
            "The body is not valid JSON.", param=None, code="invalid_json"
        ) from None

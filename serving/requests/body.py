"""Decodes the JSON bodies of requests."""

import datetime
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from serving.mistral import InvalidRequest, ModelRules, Normalised, normalise

T = TypeVar("T")

_MISSING = re.compile(r"^Object missing required field `(\w+)`$")
_PATH = re.compile(r" - at `(?:key` in `)?\$\.?(.*)`$")


def read(
    path: str, body: bytes, type: type[T], rules: ModelRules, today: datetime.date
) -> tuple[T, Normalised]:
    """Decodes the body of a request to the API at `path` and normalises it. Unknown fields are
    ignored; numbers may be strings. Raises InvalidRequest that names the field."""
    fields = _decoded(lambda: msgspec.json.decode(body))
    normalised = normalise(path, fields, rules, today) if isinstance(fields, dict) else Normalised()
    return _decoded(lambda: msgspec.convert(fields, type, strict=False, str_keys=True)), normalised


def decode(body: bytes, type: type[T]) -> T:
    """Decodes a body that no rule applies to. Raises InvalidRequest."""
    return _decoded(lambda: msgspec.json.decode(body, type=type, strict=False))


def _decoded(decoding: Callable[[], T]) -> T:
    try:
        return decoding()
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

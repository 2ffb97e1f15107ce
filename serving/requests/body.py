"""Decodes the JSON bodies of requests."""

import codecs
import datetime
import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from serving.mistral import InvalidRequest, ModelRules, Normalised, normalise
from serving.requests.places import as_sent, field_of, place_of

T = TypeVar("T")

_BYTE_ORDER_MARKS = codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
_SURROGATE = re.compile(r"[\ud800-\udfff]").search
_MISSING = re.compile(r"^Object missing required field `(\w+)`$")
_PATH = re.compile(r" - at `(?:key` in `)?\$\.?(.*)`$")


def read(
    path: str, body: bytes, type: type[T], rules: ModelRules, today: datetime.date
) -> tuple[T, Normalised]:
    """Decodes the body of a request to the API at `path` and normalises it. Unknown fields are
    ignored; numbers may be strings. Raises InvalidRequest that names the field."""
    fields = _parsed(body)
    normalised = normalise(path, fields, rules, today) if isinstance(fields, dict) else Normalised()
    with as_sent(normalised.numbers):
        decoded = _decoded(lambda: msgspec.convert(fields, type, strict=False, str_keys=True))
    return decoded, normalised


def decode(body: bytes, type: type[T]) -> T:
    """Decodes a body that no rule applies to. Raises InvalidRequest."""
    fields = _parsed(body)
    return _decoded(lambda: msgspec.convert(fields, type, strict=False, str_keys=True))


def not_json(body: bytes, error: Exception) -> InvalidRequest:
    """Returns the error for a body that `error` says is not JSON: what is wrong with it, and
    where."""
    reason, param = str(error).removeprefix("JSON is malformed: "), None
    if body.startswith(_BYTE_ORDER_MARKS):
        reason = "it begins with a byte order mark (byte 0): send UTF-8 without one"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"it is not UTF-8 (byte {_utf8_bytes(body)})"
    elif place := _beyond_json(body):
        reason, param = f"{place} is NaN, infinite or half of a surrogate pair", field_of(place)
    return InvalidRequest(
        f"The request body is not valid JSON: {reason}.", param=param, code="invalid_json"
    )


def _utf8_bytes(body: bytes) -> int:
    """Counts the bytes before the first that is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _beyond_json(body: bytes) -> str | None:
    """Returns the place of a value that Python reads, and JSON does not have."""
    try:
        fields = json.loads(body, parse_constant=lambda _: math.nan)
    except (ValueError, RecursionError):
        return None
    return place_of(
        fields,
        lambda value: value is math.nan or (isinstance(value, str) and bool(_SURROGATE(value))),
    )


def nested_too_deeply() -> InvalidRequest:
    """Returns the error for a body that is nested more deeply than can be read."""
    return InvalidRequest("The request body is nested too deeply.", param=None, code="invalid_json")


def _parsed(body: bytes) -> Any:
    """Decodes JSON. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError:
        raise _out_of_range(body) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(body, error) from None
    except RecursionError:
        raise nested_too_deeply() from None


def _out_of_range(body: bytes) -> InvalidRequest:
    """Returns the error for a body of which msgspec says only that it has a number that is too
    large."""
    fields = json.loads(body, parse_int=_finite, parse_float=_finite)
    place = place_of(fields, lambda value: value is math.inf) or ""
    return InvalidRequest(f"{place}: the number is out of range.", param=field_of(place))


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else math.inf


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
            param=field_of(param),
            code="invalid_type",
        ) from None
    except RecursionError:
        raise nested_too_deeply() from None

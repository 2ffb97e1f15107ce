"""The texts that a regular expression matches, where those are few."""

import re
from re import _constants as code  # type: ignore[attr-defined]  # the only parser that Python has
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_MOST = 100
_BEGIN, _END = "\0^", "\0$"
"""Stand for the anchors in the texts of a part."""


def texts_of(expression: str) -> list[str] | None:
    """Returns all texts that an expression matches as a whole; None if it also matches others, or
    more than a hundred, or if it has parts that are not understood here."""
    try:
        parsed = parser.parse(expression)
        if parsed.state.flags & re.IGNORECASE:
            return None
        found = _sequence(parsed)
    except (re.error, OverflowError, RecursionError, _ManyError):
        return None
    if not all(text.startswith(_BEGIN) and text.endswith(_END) for text in found):
        return None
    texts = [text.removeprefix(_BEGIN).removesuffix(_END) for text in found]
    return None if any("\0" in text for text in texts) else texts


class _ManyError(Exception):
    """An expression matches more texts than are of use, or it is not understood."""


def _sequence(parts: Any) -> list[str]:
    found = [""]
    for part in parts:
        texts = _part(*part)
        found = _few(begin + text for begin in found for text in texts)
    return found


def _part(kind: Any, value: Any) -> list[str]:
    if kind is code.LITERAL:
        return [chr(value)]
    if kind is code.IN:
        return _few(text for one in value for text in _part(*one))
    if kind is code.RANGE:
        return _few(map(chr, range(value[0], value[1] + 1)))
    if kind is code.CATEGORY and value is code.CATEGORY_DIGIT:
        return list("0123456789")
    if kind is code.AT and value in (code.AT_BEGINNING, code.AT_END):
        return [_BEGIN if value is code.AT_BEGINNING else _END]
    if kind is code.BRANCH:
        return _few(text for branch in value[1] for text in _sequence(branch))
    if kind is code.SUBPATTERN and not value[1] and not value[2]:
        return _sequence(value[3])
    if kind is code.MAX_REPEAT or kind is code.MIN_REPEAT:
        least, most, repeated = value
        if most <= _MOST:
            counts = range(least, most + 1)
            return _few(text for n in counts for text in _sequence([*repeated] * n))
    raise _ManyError


def _few(texts: Any) -> list[str]:
    """Returns the different ones among texts. Raises _ManyError."""
    found: dict[str, None] = {}
    for text in texts:
        found[text] = None
        if len(found) > _MOST:
            raise _ManyError
    return list(found)

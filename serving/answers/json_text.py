"""Decodes the escapes of JSON strings, also of strings that arrive in pieces."""

import re

_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_ESCAPES = re.compile(r"((?:\\u[0-9a-fA-F]{4})+)|\\(.)", re.DOTALL)

_HEX = "[0-9a-fA-F]"
_AFTER = rf"[^\\]|\\[^u]|\\u(?:{_HEX}{{4}}|{_HEX}{{0,3}}[^0-9a-fA-F])"
"""What follows a character whose meaning is then known."""
_COMPLETE = re.compile(
    rf"(?:[^\\]+|\\[^u]|\\u(?![dD][89abAB]{_HEX}{{2}}){_HEX}{{4}}"
    rf"|\\u(?={_HEX}{{0,3}}[^0-9a-fA-F])"
    rf"|\\u[dD][89abAB]{_HEX}{{2}}(?:\\u[dD][c-fC-F]{_HEX}{{2}}|(?={_AFTER})))*+",
    re.DOTALL,
)


def unescape(raw: str) -> str:
    """Returns the text of a JSON string from what is between its quotes. Invalid escapes stay, and
    halves of surrogate pairs are replaced."""
    return _ESCAPES.sub(_character, raw) if "\\" in raw else raw


def _character(escape: re.Match[str]) -> str:
    if escape[1]:
        return bytes.fromhex(escape[1].replace("\\u", "")).decode("utf-16-be", "replace")
    return _SIMPLE.get(escape[2], escape[0])


def complete_length(raw: str) -> int:
    """Returns how much of a JSON string's beginning can be decoded by itself, whatever follows."""
    match = _COMPLETE.match(raw)
    return match.end() if match else 0

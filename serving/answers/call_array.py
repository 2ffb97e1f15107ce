"""Reads the tool calls of tokenizer v7: one JSON array, whose text arrives in pieces."""

import re
from collections.abc import Callable
from enum import Enum, auto

from serving.answers.events import Arguments, CallBegun, CallEnded, Event
from serving.answers.json_text import complete_length, unescape

_ID = re.compile(r"[0-9A-Za-z]{9}")
_BLANK = re.compile(r"[ \t\r\n]*")
_IN_NESTED = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')
_SCALAR = re.compile(r"[0-9A-Za-z+.\-]+")
_NO_ARGUMENTS = "{}"


class _At(Enum):
    """What comes next."""

    ARRAY = auto()
    CALL_OR_END = auto()
    CALL = auto()
    KEY_OR_END = auto()
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    STRING = auto()
    NESTED = auto()
    SCALAR = auto()
    AFTER_VALUE = auto()
    AFTER_CALL = auto()
    NOTHING = auto()


_STEPS = {
    (_At.ARRAY, "["): _At.CALL_OR_END,
    (_At.CALL_OR_END, "{"): _At.KEY_OR_END,
    (_At.CALL_OR_END, "]"): _At.NOTHING,
    (_At.CALL, "{"): _At.KEY_OR_END,
    (_At.KEY_OR_END, '"'): _At.STRING,
    (_At.KEY_OR_END, "}"): _At.AFTER_CALL,
    (_At.KEY, '"'): _At.STRING,
    (_At.COLON, ":"): _At.VALUE,
    (_At.AFTER_VALUE, ","): _At.KEY,
    (_At.AFTER_VALUE, "}"): _At.AFTER_CALL,
    (_At.AFTER_CALL, ","): _At.CALL,
    (_At.AFTER_CALL, "]"): _At.NOTHING,
}
"""The states after the characters of JSON's structure that are allowed outside values."""


class CallArray:
    """Reads `[TOOL_CALLS][{"name": "...", "arguments": {...}}, ...]`. Text that turns out to be no
    such array before a call has begun is given back.

    Arguments are passed on as they come, once the name is known. An "id" counts if it comes before
    them and is one of Mistral's.
    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.ended = 0
        self._new_id = new_id
        self._at = _At.NOTHING
        self._raw: list[str] | None = None
        """All text so far, until a call has begun or the array is complete."""
        self._forget_call()
        self._forget_value()

    def _forget_call(self) -> None:
        self._key: str | None = None
        """The key of the value that is read; None while a key is read itself."""
        self._name: str | None = None
        self._id: str | None = None
        self._held: list[str] | None = None
        """Arguments that wait for the name; None before there are any."""
        self._begun = False
        self._empty = True
        """Whether the call has no arguments so far."""

    def _forget_value(self) -> None:
        self._kept: list[str] = []
        """Pieces of the key, name, id or scalar that is read."""
        self._depth = 0
        self._quoted = False
        """Whether this is inside a string inside a nested value."""
        self._escaped = False
        """Whether the last piece ended in the backslash of an escape."""
        self._encoded: str | None = None
        """The end of arguments that are a string, whose meaning depends on what follows."""

    def begin(self, out: list[Event]) -> str:
        text = self._given_back()
        self._at = _At.ARRAY
        self._raw = []
        self._forget_call()
        self._forget_value()
        return text

    def control(self, token_id: int, out: list[Event]) -> None:
        pass

    def add(self, text: str, out: list[Event]) -> str:
        if self._raw is not None:
            self._raw.append(text)
        position = 0
        while position < len(text):
            match self._at:
                case _At.NOTHING:
                    break
                case _At.STRING:
                    position = self._string(text, position, out)
                case _At.NESTED:
                    position = self._nested(text, position, out)
                case _At.SCALAR:
                    position = self._scalar(text, position, out)
                case _:
                    position = self._between(text, position, out)
            if position < 0:
                return self._given_back()
        return ""

    def end(self, whole: bool, out: list[Event]) -> str:
        return self._given_back() if whole else ""

    def _given_back(self) -> str:
        """Ends the array. Returns its text unless a call has begun or the array was complete."""
        raw, self._raw, self._at = self._raw, None, _At.NOTHING
        return "".join(raw or ())

    def _between(self, text: str, position: int, out: list[Event]) -> int:
        """Reads one character between values. Returns the next position, or -1 if the text is not
        as it must be; so do the methods for values."""
        blank = _BLANK.match(text, position)
        position = blank.end() if blank else position
        if position == len(text):
            return position
        character = text[position]
        if self._at is _At.VALUE:
            return self._begin_value(character, position)
        step = _STEPS.get((self._at, character))
        if step is None:
            return -1
        self._at = step
        if step is _At.STRING:
            self._key = None
            self._forget_value()
        elif step is _At.AFTER_CALL:
            if not self._end_call(out):
                return -1
        elif step is _At.NOTHING:
            self._raw = None
        return position + 1

    def _begin_value(self, character: str, position: int) -> int:
        self._forget_value()
        if self._key == "name" and character != '"':
            return -1
        if self._key == "arguments" and self._held is not None:
            self._key = ""  # The first arguments count.
        if character == '"':
            self._at = _At.STRING
            if self._key == "arguments":
                self._encoded = ""
            return position + 1
        if character in "{[":
            self._at = _At.NESTED
            return position
        self._at = _At.SCALAR
        return position if _SCALAR.match(character) else -1

    def _string(self, text: str, position: int, out: list[Event]) -> int:
        end = self._closing_quote(text, position)
        piece = text[position:end] if end >= 0 else text[position:]
        if self._encoded is not None:
            raw = self._encoded + piece
            length = len(raw) if end >= 0 else complete_length(raw)
            self._encoded = raw[length:]
            self._arguments(unescape(raw[:length]), out)
        else:
            self._kept.append(piece)
        if end < 0:
            return len(text)
        value = unescape("".join(self._kept))
        if self._key is None:
            self._key = value
            self._at = _At.COLON
            return end + 1
        if self._key == "name" and not self._begun:
            if not value:
                return -1
            self._name = value
            if self._held is not None:
                self._begin_call(out)
        elif self._key == "id" and _ID.fullmatch(value):
            self._id = value
        self._at = _At.AFTER_VALUE
        return end + 1

    def _closing_quote(self, text: str, position: int) -> int:
        """Returns the position of the quote that ends a string, or -1 if it is not in this text."""
        if self._escaped:
            self._escaped = False
            position += 1
        while (found := _IN_STRING.search(text, position)) is not None:
            if found[0] == '"':
                return found.start()
            position = found.end() + 1
            self._escaped = position > len(text)
        return -1

    def _nested(self, text: str, position: int, out: list[Event]) -> int:
        at = position
        while True:
            if self._quoted:
                at = self._closing_quote(text, at) + 1
                if not at:
                    break
                self._quoted = False
            found = _IN_NESTED.search(text, at)
            if found is None:
                break
            at = found.end()
            if found[0] == '"':
                self._quoted = True
            elif found[0] in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if not self._depth:
                    self._at = _At.AFTER_VALUE
                    break
        end = at if self._at is _At.AFTER_VALUE else len(text)
        if self._key == "arguments":
            self._arguments(text[position:end], out)
        return end

    def _scalar(self, text: str, position: int, out: list[Event]) -> int:
        found = _SCALAR.match(text, position)
        end = found.end() if found else position
        self._kept.append(text[position:end])
        if end < len(text):
            self._at = _At.AFTER_VALUE
            if self._key == "arguments":
                value = "".join(self._kept)
                self._arguments(_NO_ARGUMENTS if value == "null" else value, out)
        return end

    def _arguments(self, text: str, out: list[Event]) -> None:
        if self._held is None:
            self._held = []
            if self._name is not None:
                self._begin_call(out)
        if not text:
            return
        self._empty = False
        if self._begun:
            out.append(Arguments(text))
        else:
            self._held.append(text)

    def _begin_call(self, out: list[Event]) -> None:
        assert self._name is not None
        self._begun = True
        self._raw = None
        out.append(CallBegun(self._id or self._new_id(), self._name))
        if held := "".join(self._held or ()):
            out.append(Arguments(held))

    def _end_call(self, out: list[Event]) -> bool:
        """Returns False if the object is no call."""
        if not self._begun:
            if self._name is None:
                return False
            self._begin_call(out)
        if self._empty:
            out.append(Arguments(_NO_ARGUMENTS))
        out.append(CallEnded())
        self.ended += 1
        self._forget_call()
        return True

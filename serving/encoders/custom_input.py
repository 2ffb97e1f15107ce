"""Takes the text input of a custom tool out of the JSON arguments that the model writes."""

import re

_BEGIN = '{"input":"'
_KEY = range(2, 8)
"""Positions in `_BEGIN` before which white space would belong to the key."""

_SPACE = " \t\n\r"
_PLAIN = re.compile(r'[^"\\]*')
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_BEGUN_UNICODE = re.compile(r"\\(u[0-9a-fA-F]{0,3})?")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_REPLACEMENT = "\ufffd"


class CustomInput:
    """Decodes `{"input": "..."}` piece by piece, wherever the pieces are cut.

    Arguments of any other form are the input themselves, unchanged. Half of a surrogate pair is
    replaced with U+FFFD.
    """

    __slots__ = ("_ended", "_matched", "_plain", "_rest")

    def __init__(self) -> None:
        self._matched = 0
        self._rest = ""
        self._plain = False
        self._ended = False

    def feed(self, piece: str) -> str:
        """Returns the text that `piece` adds to the input."""
        if self._plain:
            return piece
        if self._ended:
            return ""
        text, self._rest = self._rest + piece, ""
        at = 0
        if self._matched < len(_BEGIN):
            begun = self._begin(text)
            if begun is None:
                return text if self._plain else ""
            at = begun
        return self._decode(text, at)

    def _begin(self, text: str) -> int | None:
        """Returns where the string begins; None if `text` is too short or of another form."""
        matched = 0
        for at, character in enumerate(text):
            if character == _BEGIN[matched]:
                matched += 1
                if matched == len(_BEGIN):
                    self._matched = matched
                    return at + 1
            elif character not in _SPACE or matched in _KEY:
                self._plain = True
                return None
        self._rest = text
        return None

    def _decode(self, text: str, at: int) -> str:
        decoded = []
        while at < len(text):
            plain = _PLAIN.match(text, at)
            assert plain is not None
            decoded.append(plain[0])
            at = plain.end()
            if at == len(text):
                break
            if text[at] == '"':
                self._ended = True
                break
            escape = self._escape(text, at)
            if escape is None:
                self._rest = text[at:]
                break
            character, at = escape
            decoded.append(character)
        return "".join(decoded)

    def _escape(self, text: str, at: int) -> tuple[str, int] | None:
        """Returns the character of the escape at that place and where the escape ends; None if
        more text is needed to tell."""
        found = _UNICODE.match(text, at)
        if found is None:
            if _BEGUN_UNICODE.fullmatch(text, at):
                return None
            character = text[at + 1]
            return _ESCAPES.get(character, "\\" + character), at + 2
        code = int(found[1], 16)
        if not 0xD800 <= code < 0xE000:
            return chr(code), found.end()
        if code >= 0xDC00:
            return _REPLACEMENT, found.end()
        low = _UNICODE.match(text, found.end())
        if low is not None and 0xDC00 <= (second := int(low[1], 16)) < 0xE000:
            return chr(0x10000 + (code - 0xD800) * 0x400 + second - 0xDC00), low.end()
        if low is None and (
            found.end() == len(text) or _BEGUN_UNICODE.fullmatch(text, found.end())
        ):
            return None
        return _REPLACEMENT, found.end()

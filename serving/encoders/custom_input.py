"""Takes the text input of a custom tool out of the JSON arguments that the model writes."""

import re

from serving.answers.json_text import complete_length, unescape
from serving.mistral.custom_tools import KEY

_SPACE = re.compile(r"[ \t\n\r]*")
_TO_TEXT = f'{{"{KEY}":'
"""What precedes the input, without white space."""
_BEGIN = re.compile(_SPACE.pattern.join(["", r"\{", f'"{KEY}"', ":", '"']))
_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class CustomInput:
    """Decodes `{"input": "..."}` piece by piece, wherever the pieces are cut.

    Arguments of any other form are the input themselves, unchanged. Half of a surrogate pair is
    replaced with U+FFFD.
    """

    __slots__ = ("_begun", "_ended", "_plain", "_rest")

    def __init__(self) -> None:
        self._rest = ""
        self._begun = False
        self._plain = False
        self._ended = False

    def feed(self, piece: str) -> str:
        """Returns the text that `piece` adds to the input."""
        if self._plain:
            return piece
        if self._ended:
            return ""
        text, self._rest = self._rest + piece, ""
        if not self._begun:
            begin = _BEGIN.match(text)
            if begin is None:
                if _TO_TEXT.startswith(_SPACE.sub("", text)):
                    self._rest = text
                    return ""
                self._plain = True
                return text
            self._begun = True
            text = text[begin.end() :]
        string = _STRING.match(text)
        length = string.end() if string else 0
        self._ended = text[length : length + 1] == '"'
        if not self._ended:
            length = complete_length(text)
            self._rest = text[length:]
        return unescape(text[:length])

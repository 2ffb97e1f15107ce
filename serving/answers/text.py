"""Decodes tokens to text as they come."""

from codecs import utf_8_decode
from collections.abc import Sequence

from serving.answers.vocabulary import Vocabulary


class TextDecoder:
    """Gives the text that mistral_common decodes from all tokens at once, wherever they are cut.

    A character of several tokens comes with its last one. Where a control token or the end cuts it
    off, and for invalid bytes, there are replacement characters.
    """

    def __init__(self, vocabulary: Vocabulary, skip_special_tokens: bool) -> None:
        """With `skip_special_tokens` control tokens are left out, else they appear by name."""
        self._texts = vocabulary.texts
        self._pieces = vocabulary.pieces
        self._control = {} if skip_special_tokens else vocabulary.control
        self._partial = b""

    @property
    def within_character(self) -> bool:
        """Whether the tokens so far end in a part of a character."""
        return self._partial != b""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text that is complete with these next tokens."""
        return "".join([self.next(token_id) for token_id in token_ids])

    def next(self, token_id: int) -> str:
        """Returns the text that is complete with this next token."""
        if not self._partial and (text := self._texts[token_id]) is not None:
            return text
        piece = self._pieces[token_id]
        if piece is None:
            return self.flush() + self._control.get(token_id, "")
        piece = self._partial + piece
        text, used = utf_8_decode(piece, "replace", False)
        self._partial = piece[used:]
        return text

    def flush(self) -> str:
        """Ends a character that lacks its last bytes. Returns its replacement, if there is one."""
        partial, self._partial = self._partial, b""
        return partial.decode("utf-8", "replace")

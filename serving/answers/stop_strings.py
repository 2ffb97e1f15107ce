"""Finds stop strings in text that arrives in pieces."""

from collections.abc import Sequence


class StopStrings:
    """Ends a text at the stop string that is complete first; of those that are complete at the same
    character, at the one that the request has first. How the text is cut does not matter.

    Text is held back while a stop string may have begun in it: always one character less than the
    longest one, as vLLM does, so that a stream's events end that far before a token's edge. Nothing
    is held back where the text is to include the stop string.
    """

    def __init__(self, stop: Sequence[str], include: bool) -> None:
        """`include` is whether the text ends after the stop string rather than before it."""
        self.match: str | None = None
        """The stop string that ended the text."""
        self._stop = [string for string in stop if string]
        self._include = include
        self._tail_length = max(map(len, self._stop), default=1) - 1
        self._tail = ""

    def add(self, text: str, may_end: bool = True) -> str:
        """Returns what the next text releases. Unless it `may_end`, no stop string that is complete
        within it counts. After a match all text is dropped."""
        if self.match is not None:
            return ""
        tail = self._tail
        window = tail + text
        if may_end and (end := self._find(window, len(tail))):
            begin = end - len(self.match or "")
            self._tail = ""
            return window[len(tail) : end] if self._include else window[:begin]
        keep = max(len(window) - self._tail_length, 0)
        self._tail = window[keep:]
        return text if self._include else window[:keep]

    def _find(self, window: str, searched: int) -> int:
        """Sets `match` to the stop string that is complete first after the `searched` characters.
        Returns its end, or 0 if there is none."""
        first = 0
        for string in self._stop:
            begin = window.find(string, max(searched - len(string) + 1, 0))
            end = begin + len(string)
            if begin >= 0 and (not first or end < first):
                first, self.match = end, string
        return first

    def flush(self) -> str:
        """Returns what was held back, at the end of a text without a match. Text that is added
        later matches by itself."""
        tail, self._tail = self._tail, ""
        return "" if self._include else tail

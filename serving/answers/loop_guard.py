"""Detects that an answer repeats itself endlessly, from its token ids alone."""

import re
from array import array
from collections.abc import Callable, Iterator
from typing import Protocol

STOP_REASON = "repetition_detected"
"""The `stop_reason` of a stopped answer, as vLLM names it."""

_TOKEN_BYTES = 4
_STRIDE = 32
_LAST_SYMBOL = "\u259f"
"""The last of the box drawing and block characters; emoji and most scripts follow it."""


_DATA = re.compile(
    r"\b(?:null|none|nil|nan|true|false|n/a)\b|\b0x[0-9a-f]+\b|</?[a-z][^<>]*>|&[a-z]+;", re.I
)


def is_wordless(pattern: str) -> bool:
    """Whether a repeated pattern consists of symbols and digits, literals (null, True, n/a, 0xFF)
    and tags, with no two different letters besides and no emoji. Valid tables, matrices and encoded
    data repeat zeros and rules at length, but not blanks alone, nor a literal without symbols."""
    # A pattern may begin inside a literal; the middle one of three copies has it whole.
    rest = _DATA.sub(_without_letters, pattern * 3)[len(pattern) : 2 * len(pattern)]
    letters = {c for c in rest if c.isalpha()}
    return len(letters) < 2 and max(rest, default="") <= _LAST_SYMBOL and not rest.isspace()


def _without_letters(data: re.Match[str]) -> str:
    return (" " if data[0].isalpha() else "0") * len(data[0])


class LoopRules(Protocol):
    """When an answer counts as a loop, as `loop_guard` in the catalogue says."""

    @property
    def max_pattern_tokens(self) -> int: ...
    @property
    def min_pattern_tokens(self) -> int: ...
    @property
    def min_count(self) -> int: ...

    def run_tokens(self, pattern_tokens: int, wordless: bool) -> int:
        """Number of tokens after which a pattern of that length is a loop."""


class LoopDetector:
    """Watches one answer. `text_of` returns the text of a token, and is called for suspects
    only."""

    def __init__(self, guard: LoopRules, text_of: Callable[[int], str]) -> None:
        self._guard = guard
        self._text_of = text_of
        self._ids = bytearray()
        shortest_run = guard.min_pattern_tokens * guard.min_count
        rest_of_run = guard.min_pattern_tokens * (guard.min_count - 1)
        probe = min(8, rest_of_run)
        self._probe = _TOKEN_BYTES * probe
        self._window = _TOKEN_BYTES * guard.max_pattern_tokens + self._probe
        self._stride = min(_STRIDE, 1 + rest_of_run - probe)
        """Number of tokens from one look to the next where no loop is close. What becomes a loop
        before the next look already ends in two occurrences of its probe."""
        self._unread = array("I")
        """The tokens since the last look."""
        self._look_at = shortest_run
        """The number of those at which the next look is due."""

    def add(self, token_id: int) -> bool:
        """Whether the answer loops at this next token."""
        unread = self._unread
        unread.append(token_id)
        return len(unread) >= self._look_at and self._look()

    def _look(self) -> bool:
        """Whether the tokens so far end in a loop."""
        self._ids += self._unread.tobytes()
        del self._unread[:]
        self._look_at = 1
        close = False
        for pattern in self._suspects():
            run = self._guard.run_tokens(pattern, wordless=False)
            if self._repeats(pattern, run + 1 - self._stride):
                close = True
                if self._repeats(pattern, run):
                    return not self._wordless(pattern) or self._repeats(
                        pattern, self._guard.run_tokens(pattern, wordless=True)
                    )
        if not close:
            self._look_at = self._stride
        return False

    def _suspects(self) -> Iterator[int]:
        """Yields the lengths of the patterns that may repeat at the end of the answer, the shortest
        first."""
        # In a loop the last few tokens occurred one pattern ago, which is rare otherwise.
        ids, end = self._ids, len(self._ids)
        begin, low = end - self._probe, max(0, end - self._window)
        probe = ids[begin:]
        at = ids.rfind(probe, low, end - _TOKEN_BYTES)
        while at >= 0:
            pattern, unaligned = divmod(begin - at, _TOKEN_BYTES)
            if not unaligned:
                yield pattern
            at = ids.rfind(probe, low, at + self._probe - 1)

    def _repeats(self, pattern: int, run: int) -> bool:
        """Whether that many tokens at the end of the answer are repetitions of a pattern of that
        many tokens."""
        ids = self._ids
        begin = len(ids) - run * _TOKEN_BYTES
        return begin >= 0 and ids.startswith(ids[begin + pattern * _TOKEN_BYTES :], begin)

    def _wordless(self, pattern: int) -> bool:
        tail = memoryview(self._ids)[-pattern * _TOKEN_BYTES :].cast("I")
        texts = {token_id: self._text_of(token_id) for token_id in set(tail)}
        return is_wordless("".join(texts[token_id] for token_id in tail))

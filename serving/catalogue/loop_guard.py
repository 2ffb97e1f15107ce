"""When an answer counts as a loop, by what `serving/answers/loop_guard.py` detects."""

from pydantic import Field, model_validator

from serving.section import Section, wrong

_ROW_TOKENS = 9
_ROWS = 101
_ROWS_TOKENS = 2500
_WORDLESS_FACTOR = 16


class LoopGuard(Section):
    """Defines when an answer counts as a loop: when it ends in at least `min_count` repeats of one
    pattern of at most `max_pattern_tokens` tokens. A pattern shorter than `min_pattern_tokens` must
    repeat for as long as one of that length.

    A pattern of 9 tokens or more may be a legitimate row or line: it must repeat 101 times or, if
    that is less, for 2,500 tokens. One without words (symbols, digits, literals, tags) must repeat
    for 16 times as long as a short one with words. With the defaults a loop of up to 8 tokens is
    stopped within 192, one of 9 to 24 at its 101st repeat, one of 25 to 104 tokens after 2,500, and
    a longer one at its 24th repeat.
    """

    max_pattern_tokens: int = Field(ge=1, default=256)
    min_pattern_tokens: int = Field(ge=1, default=7)
    min_count: int = Field(ge=2, default=24)

    @model_validator(mode="after")
    def _shortest_is_not_above_longest(self) -> "LoopGuard":
        if self.min_pattern_tokens > self.max_pattern_tokens:
            raise wrong(
                "min_pattern_tokens", f"at most max_pattern_tokens, {self.max_pattern_tokens}"
            )
        return self

    def run_tokens(self, pattern_tokens: int, wordless: bool) -> int:
        """Number of tokens after which a pattern of that length is a loop."""
        run = max(pattern_tokens, self.min_pattern_tokens) * self.min_count
        if wordless:
            return run * _WORDLESS_FACTOR
        if pattern_tokens < _ROW_TOKENS:
            return run
        return max(run, min(pattern_tokens * _ROWS, _ROWS_TOKENS))

"""Predicts the length of answers."""

_LEARNING = 0.01
"""Weight of the newest answer: about the last 100 count."""


class ExpectedOutput:
    """Learns the length of a model's answers, which `max_tokens` does not reveal: clients set it to
    the whole context and mean "no limit", as the model cards' own examples do."""

    def __init__(self, first_guess_tokens: int = 512) -> None:
        self._mean_tokens = float(first_guess_tokens)

    def tokens(self, limit: int | None) -> int:
        """Returns the expected tokens of an answer that the client limits to `limit`, if it
        does."""
        expected = round(self._mean_tokens)
        return expected if limit is None or not 0 < limit < expected else limit

    def observe(self, tokens: int) -> None:
        """Learns from an answer that ended by itself or at its limit."""
        self._mean_tokens += (tokens - self._mean_tokens) * _LEARNING

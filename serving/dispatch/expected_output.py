"""How long the answer to a request will be."""

_LEARNING = 0.01
"""Weight of the newest answer: about the last 100 count."""


class ExpectedOutput:
    """Learnt from the answers of a model: clients give its whole context as `max_tokens` and mean
    "no limit", as the model cards' own examples do.
    """

    def __init__(self, first_guess_tokens: int = 512) -> None:
        self._mean_tokens = float(first_guess_tokens)

    def tokens(self, limit: int | None) -> int:
        """How long an answer will be that the client limits to so many, or not at all."""
        expected = round(self._mean_tokens)
        return expected if limit is None or not 0 < limit < expected else limit

    def observe(self, tokens: int) -> None:
        """An answer that came to its end, of itself or by its limit, had so many."""
        self._mean_tokens += (tokens - self._mean_tokens) * _LEARNING

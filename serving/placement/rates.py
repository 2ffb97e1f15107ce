"""The speed of a replica, as learnt from the times that the router observes."""

_DECAY = 0.97
"""Factor on an observation's weight for each later one: about the last 30 count."""

_OUTLIER = 3.0
"""An observation counts as at most this many times the expected value, and at least 1/3 of it: a
stall changes little, and a wrong first guess is still corrected within some tens."""

_LEAST_SCALE = 0.01

_TOGETHER = 0.1
_TO_FIRST_GUESS = 0.01
"""Weights, in observations, of the priors that the two scales are equal, and that they are 1."""


class _Regression:
    """A regression `fixed + each * x`, in ms, that minimises the squares of relative errors.

    Both terms are learnt as multiples of their first guesses. Where the observations cannot
    separate them, as when all have the same x, both change alike.
    """

    __slots__ = ("_each0", "_fixed0", "_uu", "_uv", "_uy", "_vv", "_vy", "each", "fixed")

    def __init__(self, fixed: float, each: float) -> None:
        self.fixed = self._fixed0 = fixed
        self.each = self._each0 = each
        self._uu = self._uv = self._vv = self._uy = self._vy = 0.0

    @property
    def observed(self) -> bool:
        return self._uy > 0

    def observe(self, x: float, ms: float) -> None:
        guess = self._fixed0 + self._each0 * x
        expected = self.fixed + self.each * x
        y = min(max(ms / expected, 1 / _OUTLIER), _OUTLIER)
        u = self._fixed0 / expected
        v = self._each0 * x / expected
        self._uu = _DECAY * self._uu + u * u
        self._uv = _DECAY * self._uv + u * v
        self._vv = _DECAY * self._vv + v * v
        self._uy = _DECAY * self._uy + u * y
        self._vy = _DECAY * self._vy + v * y
        # Normal equations of the two scales, pulled towards each other and, weakly, to 1.
        unit = (guess / expected) ** 2
        together, to_one = _TOGETHER * unit, _TO_FIRST_GUESS * unit
        a = self._uu + together + to_one
        b = self._uv - together
        c = self._vv + together + to_one
        p, q = self._uy + to_one, self._vy + to_one
        determinant = a * c - b * b
        self.fixed = self._fixed0 * max(_LEAST_SCALE, (p * c - q * b) / determinant)
        self.each = self._each0 * max(_LEAST_SCALE, (q * a - p * b) / determinant)


class Rates:
    """The time of a prefill, which grows with its tokens, and of a decode step, which grows with
    the context that it reads.

    The first guesses are for a 24B model in BF16 on one H100: 11,000 tokens/s at 50 % of its
    FLOP/s; a step reads 46 GB of weights, and 160 KiB of KV cache for each token of context, at 80
    % of its memory bandwidth. All must be above 0.
    """

    __slots__ = ("_prefill", "_step", "prefill_ms_per_token", "step_ms_per_context_token")

    def __init__(
        self,
        prefill_tokens_per_s: float = 11_000,
        overhead_ms: float = 20,
        step_ms: float = 18.5,
        step_ms_per_context_token: float = 6e-5,
    ) -> None:
        self._prefill = _Regression(overhead_ms, 1000 / prefill_tokens_per_s)
        self._step = _Regression(step_ms, step_ms_per_context_token)
        self.prefill_ms_per_token = self._prefill.each
        self.step_ms_per_context_token = self._step.each

    @property
    def prefill_is_learnt(self) -> bool:
        """Whether the prefill rate was observed, rather than guessed."""
        return self._prefill.observed

    @property
    def prefill_tokens_per_s(self) -> float:
        return 1000 / self.prefill_ms_per_token

    @property
    def overhead_ms(self) -> float:
        """The fixed part of the time to a first token."""
        return self._prefill.fixed

    def first_token_ms(self, tokens: float) -> float:
        """Returns the time from sending a request to its first token, in ms. `tokens` are the
        uncached ones to prefill before it: its own, and those of requests ahead of it."""
        return self._prefill.fixed + self._prefill.each * tokens

    def step_ms(self, context_tokens: float) -> float:
        """Returns the time of a decode step, without prefill, of sequences that hold
        `context_tokens` together."""
        return self._step.fixed + self._step.each * context_tokens

    def context_tokens(self, step_ms: float) -> float:
        """Returns the tokens that sequences hold together when a step takes `step_ms`."""
        return (step_ms - self._step.fixed) / self._step.each

    def observe_first_token(self, tokens: float, ms: float) -> None:
        """Learns from a first token; `tokens` as in `first_token_ms`."""
        self._prefill.observe(tokens, ms)
        self.prefill_ms_per_token = self._prefill.each

    def observe_steps(self, context_tokens: float, step_ms: float) -> None:
        """Learns from the mean time of steps; `context_tokens` as in `step_ms`."""
        self._step.observe(context_tokens, step_ms)
        self.step_ms_per_context_token = self._step.each

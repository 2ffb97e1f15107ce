"""The work that came to a router, for one model."""


class Arrivals:
    """Counts what came, and what of it waits."""

    def __init__(self) -> None:
        self.prefill_tokens = 0
        """Uncached ones of all that came."""
        self.waiting_prefill_tokens = 0
        self.waiting_kv_tokens = 0
        self.waiting_requests = 0

    def come(self, kv_tokens: int, returns: bool) -> "Arrival":
        """A request. `returns`: it was here before and was told to come back."""
        return Arrival(self, kv_tokens, returns)


class Arrival:
    """A request on its way to a replica."""

    __slots__ = (
        "_arrivals",
        "_counted",
        "_kv_tokens",
        "_prefill_tokens",
        "_waits",
    )

    def __init__(self, arrivals: Arrivals, kv_tokens: int, counted: bool) -> None:
        self._arrivals = arrivals
        self._kv_tokens = kv_tokens
        self._counted = counted
        self._prefill_tokens = 0
        self._waits = False

    def count(self, prefill_tokens: int) -> None:
        """It is placed or refused, and so many tokens have to be prefilled for it, or would have.
        Counts once.
        """
        if not self._counted:
            self._counted = True
            self._arrivals.prefill_tokens += prefill_tokens

    def waits(self, prefill_tokens: int) -> None:
        """Until it has `left` the line. So many would have to be prefilled now."""
        self.count(prefill_tokens)
        self._prefill_tokens = prefill_tokens
        self._waits = True
        self._wait(1)

    def left(self) -> None:
        """For whatever reason; nothing if it did not wait."""
        if self._waits:
            self._waits = False
            self._wait(-1)

    def _wait(self, sign: int) -> None:
        arrivals = self._arrivals
        arrivals.waiting_requests += sign
        arrivals.waiting_kv_tokens += sign * self._kv_tokens
        arrivals.waiting_prefill_tokens += sign * self._prefill_tokens

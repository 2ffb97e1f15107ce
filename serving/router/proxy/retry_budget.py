"""Limits how much work is done twice."""


class RetryBudget:
    """A token bucket that requests fill and retries empty, so that retries do not amplify an
    outage.

    It starts full with `reserve` retries: as many as fail at once when a replica dies with a full
    batch and a queue. In the long run a share of `ratio` of the requests may be retried, as in
    Finagle and Linkerd.
    """

    def __init__(self, ratio: float = 0.2, reserve: int = 1000) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._tokens = float(reserve)

    def request(self) -> None:
        """Counts a request that a client has sent."""
        self._tokens = min(self._tokens + self._ratio, self._reserve)

    def take(self) -> bool:
        """Takes a retry out of the budget. Returns False if none is left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

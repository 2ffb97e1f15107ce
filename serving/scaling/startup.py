"""Measures how long a replica takes to start."""

from collections import deque

_REMEMBERED = 3


class StartupTime:
    """The time from the decision for a replica until it is up, including the start of its node."""

    def __init__(self, first_guess_s: float) -> None:
        self._first_guess_s = first_guess_s
        self._measured_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._asked_s: deque[float | None] = deque()
        """Times at which the starting replicas were requested, in order; None if that was before
        this object began."""
        self._up: int | None = None

    def observe(self, up: int, starting: int, now_s: float) -> None:
        first = self._up is None
        for _ in range(min(up - (self._up or 0), len(self._asked_s))):
            asked_s = self._asked_s.popleft()
            if asked_s is not None:
                self._measured_s.append(now_s - asked_s)
        self._up = up
        while len(self._asked_s) > starting:
            self._asked_s.pop()
        while len(self._asked_s) < starting:
            self._asked_s.append(None if first else now_s)

    def seconds(self, now_s: float) -> float:
        """The startup time of the slowest of the last few replicas, or the time for which one has
        been starting if that is longer."""
        known_s = max(self._measured_s, default=self._first_guess_s)
        oldest_s = self._asked_s[0] if self._asked_s else None
        return known_s if oldest_s is None else max(known_s, now_s - oldest_s)

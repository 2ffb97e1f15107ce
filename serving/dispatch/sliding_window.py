"""A count over the last minute, or the last day."""

import math
from collections import deque


class SlidingWindow:
    """The sum of what was added in the last `length_s`. Amounts of one granule of time leave it
    together, once the newest of them may: so it is never too small, and too large by at most the
    amounts of one granule."""

    def __init__(self, length_s: float, granules: int) -> None:
        self._granule_s = length_s / granules
        self._granules = granules
        self._amounts: deque[list[int]] = deque()
        """Pairs of a granule's number and its amount, oldest first."""
        self._total = 0
        self._expires_s = math.inf
        """When the oldest granule leaves."""

    def add(self, amount: int, at_s: float, now_s: float) -> None:
        """Adds an amount of the time `at_s`, not after `now_s`; ignored if that has left the
        window. It is below 0 to take back what was added then."""
        if now_s >= self._expires_s:
            self._expire(now_s)
        amounts, number = self._amounts, math.floor(at_s / self._granule_s)
        if amounts and amounts[-1][0] == number:
            amounts[-1][1] += amount
            self._total += amount
            return
        if self._leaves_s(number) <= now_s:
            return
        self._total += amount
        place = len(amounts)
        while place and amounts[place - 1][0] > number:
            place -= 1
        if place and amounts[place - 1][0] == number:
            amounts[place - 1][1] += amount
        else:
            amounts.insert(place, [number, amount])
            self._expires_s = self._leaves_s(amounts[0][0])

    def total(self, now_s: float) -> int:
        if now_s >= self._expires_s:
            self._expire(now_s)
        return self._total

    def frees_in_s(self, amount: int, now_s: float) -> float:
        """Returns the time until at least `amount` of the total has left the window."""
        left = 0
        for number, of_granule in self._amounts:
            left += of_granule
            if left >= amount:
                return self._leaves_s(number) - now_s
        return 0.0

    def empties_in_s(self, now_s: float) -> float:
        """Returns the time until all of the total has left the window."""
        for number, of_granule in reversed(self._amounts):
            if of_granule:
                return self._leaves_s(number) - now_s
        return 0.0

    def since(self, ago_s: float, now_s: float) -> int:
        """Returns what was added in the last `ago_s`, to a granule."""
        first = math.floor((now_s - ago_s) / self._granule_s)
        recent = 0
        for number, amount in reversed(self._amounts):
            if number <= first:
                break
            recent += amount
        return recent

    def amounts(self, now_s: float) -> list[tuple[float, int]]:
        """Returns pairs of an age in seconds and an amount: what the window holds."""
        self._expire(now_s)
        return [
            (max(0.0, now_s - number * self._granule_s), amount) for number, amount in self._amounts
        ]

    def _leaves_s(self, number: int) -> float:
        """Returns when a granule leaves the window."""
        return (number + self._granules + 1) * self._granule_s

    def _expire(self, now_s: float) -> None:
        amounts = self._amounts
        while amounts and self._leaves_s(amounts[0][0]) <= now_s:
            self._total -= amounts.popleft()[1]
        self._expires_s = self._leaves_s(amounts[0][0]) if amounts else math.inf

"""Bounds the memory of the request bodies that a router holds."""

from serving.router.http import protocol_errors


class BodyBudget:
    """The bytes that all bodies together may have."""

    def __init__(self, limit_bytes: int) -> None:
        self.left_bytes = limit_bytes

    def hold(self) -> "HeldBody":
        return HeldBody(self)


class HeldBody:
    """What one request has of the budget, from its first byte to its `release`."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def take(self, count: int) -> None:
        """Takes that many more bytes. Raises ApiError 503 if the budget has not as many."""
        if count > self._budget.left_bytes:
            raise protocol_errors.too_many_bodies()
        self._budget.left_bytes -= count
        self._bytes += count

    def release(self) -> None:
        self._budget.left_bytes += self._bytes
        self._bytes = 0

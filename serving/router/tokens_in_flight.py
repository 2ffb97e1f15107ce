"""What is booked on a replica, in tokens, and placement by the fewest of them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class ReplicaLoad:
    """Unfinished work of a replica: booked when a request is placed, released at its end."""

    requests: int = 0
    tokens: int = 0

    def book(self, tokens: int) -> None:
        self.requests += 1
        self.tokens += tokens

    def release(self, tokens: int) -> None:
        self.requests -= 1
        self.tokens -= tokens


def least_tokens(loads: Sequence[ReplicaLoad]) -> int:
    """The index of the load with the fewest tokens in flight; of equals, the fewest requests, then
    the first. Raises ValueError if there is none to choose from.
    """
    return min(range(len(loads)), key=lambda i: (loads[i].tokens, loads[i].requests))

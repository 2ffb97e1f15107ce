"""What is booked on a replica."""

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

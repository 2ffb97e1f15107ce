"""What is kept of a response, and the interface of what keeps it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

RUNNING = frozenset(("queued", "in_progress"))
"""Statuses of a response that runs in the background."""
ENDED_WELL = frozenset(("completed", "incomplete"))
"""Statuses of a response that another one can continue."""


class StoreError(Exception):
    """The store cannot be read or written now; the message says why, and nothing of its content."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response with its own input. Its history is that of `previous_id`."""

    tenant: str
    response_id: str
    status: str
    """The `status` of the response object."""
    input: bytes
    """The input items of the request as JSON, each with an id."""
    response: bytes
    """The response object as JSON."""
    previous_id: str | None = None
    background: bool = False
    silent_s: float = 0.0
    """The time since its router last reported that it runs; set by the store."""

    @property
    def size_bytes(self) -> int:
        return len(self.input) + len(self.response)


class ResponseStore(Protocol):
    """Keeps responses, each for its tenant alone. Calls block, and raise StoreError."""

    @property
    def largest_bytes(self) -> int:
        """The size of the largest response that is kept."""

    def put(self, stored: StoredResponse) -> bool:
        """Keeps a response, in place of one with its id. Returns False if it is too large."""

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Returns a response of the tenant; None if there is none, or it has expired."""

    def delete(self, tenant: str, response_id: str) -> bool:
        """Deletes a response of the tenant. Returns False if there was none."""

    def advance(self, stored: StoredResponse) -> bool:
        """Replaces a response that still runs. Returns False if none with its id does."""

    def seen(self, running: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Reports that these responses (tenant and id) run, and returns those that still should."""

    def expire(self) -> None:
        """Deletes what has expired."""

    def close(self) -> None:
        """Closes the store; the next call opens it again."""

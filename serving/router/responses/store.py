"""What is kept of a response, and the interface of what keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Key = tuple[str, str]
"""The tenant and id of a response."""

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
    owner: str = ""
    """The router that runs it in the background."""

    @property
    def size_bytes(self) -> int:
        return len(self.input) + len(self.response)


@dataclass(frozen=True, slots=True)
class News:
    """Events of a stream, the first of which has the number `first`."""

    first: int = 0
    events: Sequence[bytes] = ()


NO_NEWS = News()


@dataclass(frozen=True, slots=True)
class Claim:
    """A response in the background that was taken over."""

    stored: StoredResponse
    request: bytes
    """What was given to `put`."""
    events: list[bytes]
    claims: int
    """How often it was taken over, this time included."""


class ResponseStore(Protocol):
    """Keeps responses, each for its tenant alone. Calls block, and raise StoreError."""

    @property
    def largest_bytes(self) -> int:
        """The size of the largest response that is kept."""

    def put(
        self, stored: StoredResponse, request: bytes = b"", events: Sequence[bytes] = ()
    ) -> bool:
        """Keeps a response, in place of one with its id. `request` is what another router needs to
        run it, and kept for as long as it runs; `events` are the first of its stream. Returns False
        if it is too large."""

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Returns a response of the tenant; None if there is none, or it has expired."""

    def delete(self, tenant: str, response_id: str) -> bool:
        """Deletes a response of the tenant. Returns False if there was none."""

    def advance(self, stored: StoredResponse, news: News = NO_NEWS) -> bool:
        """Replaces a response that still runs, at its `owner` if it names one, and adds to its
        events. Returns False if no such response does."""

    def report(self, owner: str, running: Mapping[Key, News]) -> set[Key]:
        """Reports that this router runs these responses, and adds to their events what they do not
        have yet. Returns those that still should run there."""

    def events(self, tenant: str, response_id: str, first: int) -> tuple[str, list[bytes]] | None:
        """Returns the status of a response, and some of its events from that number on; all of them
        if there are few. None if there is no such response."""

    def claim(self, owner: str, silent_s: float) -> Claim | None:
        """Has this router run a response that another one has not reported for that long; None if
        there is none."""

    def expire(self) -> None:
        """Deletes what has expired."""

    def close(self) -> None:
        """Closes the store; the next call opens it again."""


MOST_EVENTS = 1000
"""How many events `ResponseStore.events` returns at most."""

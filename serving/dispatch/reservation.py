"""A request's claim on a replica, from its arrival to its end."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from serving.dispatch.request import Request
from serving.placement import Booking, ReplicaLoad

Reason = Literal[
    "queue_full", "wait_too_long", "deadline_unreachable", "deadline_too_short", "no_replica"
]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request is not let in, or waits no longer, and when to send it again."""

    reason: Reason
    wait_s: float
    """How long it would have had to wait from now on, as far as can be foreseen."""
    retry_after_s: int | None
    """None: it can never be served as it is."""


class State(Enum):
    WAITING = auto()
    """In the request queue."""
    PLACED = auto()
    """Booked on a replica."""
    RELEASED = auto()
    """Over: it was on a replica, and was served, failed or was abandoned by its client."""
    WITHDRAWN = auto()
    """Over: its client left before it was sent to a replica."""
    REJECTED = auto()
    """Over: it waited in vain; its `rejection` says why."""


class Outcome(Enum):
    """How a placed request ended."""

    SERVED = auto()
    FAILED = auto()
    """Its replica failed it, which says nothing of how fast replicas serve."""
    CLIENT_GONE = auto()


class Reservation:
    """A request that was let in. Only its `Dispatcher` changes it:

        submit ─> WAITING ── poll ──> PLACED ── release ──> RELEASED
                   │    │             │ ^  │
                   │    │             move └─ withdraw ──> WITHDRAWN
                   │    └─ withdraw ──> WITHDRAWN
                   └─ poll ──> REJECTED

    A request that is placed at once is so when `submit` returns. One that finds no replica to move
    to is released and submitted again.
    """

    __slots__ = (
        "arrived_at_s",
        "booking",
        "cached_tokens",
        "expires_at_s",
        "is_counted",
        "kv_tokens",
        "number",
        "overtaken_tokens",
        "preferred",
        "rejection",
        "request",
        "service_s",
        "share",
        "state",
        "tried",
        "waiting_prefill_tokens",
    )

    def __init__(
        self,
        request: Request,
        number: int,
        share: float,
        service_s: float,
        arrived_at_s: float,
        expires_at_s: float,
    ) -> None:
        self.request = request
        self.number = number
        """In order of arrival, and unique among the unfinished requests of its router."""
        self.kv_tokens = request.kv_tokens
        self.share = share
        """The part of a replica that it takes; see `Capacity.share`."""
        self.service_s = service_s
        """The least time that it will spend on a replica, if it has a timeout, else 0."""
        self.arrived_at_s = arrived_at_s
        self.expires_at_s = expires_at_s
        """When it will have waited in vain."""
        self.state = State.WAITING
        self.rejection: Rejection | None = None

        self.overtaken_tokens = 0
        """KV tokens that were let past it while it stood first."""
        self.preferred: ReplicaLoad | None = None
        """The replica that it waits for, if it waits for one."""
        self.waiting_prefill_tokens: int | None = None
        """What it adds to the offered load that waits; None: it does not."""
        self.is_counted = False
        """Whether the offered load has it."""

        self.booking: Booking | None = None
        self.cached_tokens = 0
        """The tokens of its prompt that its replica is expected to have cached."""
        self.tried: list[str] = []
        """The ids of the replicas that it was placed on, the present one last."""

    @property
    def replica_id(self) -> str:
        """Where it is or was placed. Raises IndexError if it never was."""
        return self.tried[-1]

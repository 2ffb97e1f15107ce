"""A request's claim on a replica, from its arrival to its end."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

import msgspec

from serving.dispatch.messages import Service
from serving.dispatch.request import Request
from serving.placement import Booking, ReplicaLoad, Session

Reason = Literal[
    "queue_full", "wait_too_long", "deadline_unreachable", "deadline_too_short", "no_replica"
]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request is not admitted or no longer waits, and when to retry."""

    reason: Reason
    wait_s: float
    """The estimated wait from now on."""
    retry_after_s: int | None
    """The Retry-After; None if the request can never be served as it is."""


class Spent(msgspec.Struct, frozen=True):
    """The tokens that an engine has processed for a request."""

    prefill_tokens: int
    """Prompt tokens that were not cached."""
    output_tokens: float


class State(Enum):
    WAITING = auto()
    """Waits in the request queue."""
    PLACED = auto()
    """Is booked on a replica."""
    RELEASED = auto()
    """Ended after it was on a replica: served, failed or abandoned by its client."""
    WITHDRAWN = auto()
    """Ended because its client left before it was sent to a replica."""
    REJECTED = auto()
    """Ended because it was not placed in time; its `rejection` says why."""


class Outcome(Enum):
    """How a placed request ended."""

    SERVED = auto()
    FAILED = auto()
    """Its replica failed, so its time says nothing about the service rate."""
    CLIENT_GONE = auto()


class Reservation:
    """An admitted request. Only its `Dispatcher` changes it:

            submit ─> WAITING ── poll ──> PLACED ── release ──> RELEASED
                   │    │             │ ^  │
                   │    │             move └─ withdraw ──> WITHDRAWN
                   │    └─ withdraw ──> WITHDRAWN
                   └─ poll ──> REJECTED

    A request that is placed at once is PLACED when `submit` returns. One that finds no replica to
    move to is released and submitted again.
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
        "room",
        "service",
        "service_s",
        "session",
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
        """Ordered by arrival, and unique among the unfinished requests of its router."""
        self.kv_tokens = request.kv_tokens
        self.share = share
        """The part of a replica that it takes; see `Capacity.share`."""
        self.service_s = service_s
        """The least time that it will spend on a replica, if it has a timeout, else 0."""
        self.arrived_at_s = arrived_at_s
        self.expires_at_s = expires_at_s
        """The time at which it is rejected if it still waits."""
        self.state = State.WAITING
        self.rejection: Rejection | None = None

        self.overtaken_tokens = 0
        """KV tokens of the requests that bypassed it while it was first."""
        self.preferred: ReplicaLoad | None = None
        """The replica that it waits for, if any."""
        self.session: Session | None = None
        """The session that it is a turn of, if it is known."""
        self.room: ReplicaLoad | None = None
        """The replica whose cache has room for its session, which waited for that."""
        self.waiting_prefill_tokens: int | None = None
        """Its part of the offered load that waits; None if it does not wait."""
        self.is_counted = False
        """Whether the offered load includes it."""

        self.booking: Booking | None = None
        self.service: Service | None = None
        """What its tenant is charged for it, once it was placed."""
        self.cached_tokens = 0
        """The prompt tokens expected to be cached on its replica."""
        self.tried: list[str] = []
        """The ids of the replicas that it was placed on, the present one last."""

    @property
    def replica_id(self) -> str:
        """The id of its present or last replica. Raises IndexError if it never had one."""
        return self.tried[-1]

"""What routers publish to each other about the requests that may have ended an engine."""

import msgspec

from serving.poison.reason import Reason


class Suspected(msgspec.Struct, frozen=True, array_like=True, tag="suspected"):
    """The state of a suspect of the publishing router, which replaces an earlier one. It is not
    being tried."""

    digest: bytes
    shape: int
    """A hash of the lengths of its prompt's parts: a request of another is not the same."""
    begun: bool
    """Whether its answer had begun: see `PoisonGuard`."""
    answered: bool
    """Whether the router knows of an answer to the same prompt."""
    replica_ids: list[str]
    """The replicas that died with it in their last steps, the latest last."""
    reason: Reason
    """Why the latest died."""
    requests: int
    """How many of the router's requests with this digest were in the latest's last steps."""
    of: int | None
    """How many requests were in the latest's last steps, as the engine says."""
    tried: bool
    """Whether the latest death was in its trial."""
    waits: bool
    """Whether a client of the router waits for the answer, so that it can be tried there."""
    tie: int
    """Decides which of two routers tries a suspect that both have: the lowest."""


class Tried(msgspec.Struct, frozen=True, array_like=True, tag="tried"):
    """A suspect is being tried on a replica."""

    digest: bytes
    replica_id: str


class Cleared(msgspec.Struct, frozen=True, array_like=True, tag="cleared"):
    """A suspect is innocent of all deaths so far."""

    digest: bytes


class Withdrawn(msgspec.Struct, frozen=True, array_like=True, tag="withdrawn"):
    """A suspect is no longer of interest to the publishing router."""

    digest: bytes


class Judged(msgspec.Struct, frozen=True, array_like=True, tag="judged"):
    """A request is guilty. Times are relative, as routers have different clocks."""

    digest: bytes
    shape: int
    reason: Reason
    build: str
    """The build of the engines that it ends."""
    age_s: float
    expires_in_s: float


class Pardoned(msgspec.Struct, frozen=True, array_like=True, tag="pardoned"):
    """An operator has cleared a guilty request; None: all of them."""

    digest: bytes | None


PoisonMessage = Suspected | Tried | Cleared | Withdrawn | Judged | Pardoned

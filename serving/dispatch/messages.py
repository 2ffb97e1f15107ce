"""The messages about a model that routers publish to each other, so that all know the same."""

import msgspec


class Service(msgspec.Struct, frozen=True, array_like=True):
    """Engine time that a tenant is charged for, in virtual time; see `FairShare`."""

    tenant: str
    priority: int
    virtual_ms: float
    """Engine time over the tenant's weight; below 0 if too much was charged before."""
    start_ms: float | None = None
    """The tenant's virtual time before the charge; None for a correction."""


class Placed(msgspec.Struct, frozen=True, array_like=True, tag="placed"):
    """A request was sent to a replica."""

    number: int
    """Unique among the unfinished requests of the router that placed it."""
    replica_id: str
    hashes: list[int]
    """The first of three fields (`hashes`, `ends_tokens`, `answer`) of the prompt's `Prefix`."""
    ends_tokens: list[int]
    answer: tuple[int, int] | None
    prompt_tokens: int
    output_tokens: int
    """The expected length of the answer."""
    cached_tokens: int
    """The prompt tokens expected to be cached on the replica."""
    streamed: bool = True
    background: bool = False
    service: Service | None = None
    """What its tenant is charged for it. None: nothing, or not again."""
    adapter: str = ""


class FirstToken(msgspec.Struct, frozen=True, array_like=True, tag="first_token"):
    """The first token of a request's answer was seen."""

    number: int


class Released(msgspec.Struct, frozen=True, array_like=True, tag="released"):
    """A request has left its replica, with any outcome."""

    number: int
    output_tokens: int = 0
    """The length of an answer that is complete; 0 if it failed or the client left."""
    correction: Service | None = None
    """The difference between what its tenant was charged and what it took."""


class TenantDemand(msgspec.Struct, frozen=True, array_like=True):
    """A tenant's part of a router's demand, with the tenant's weight."""

    weight: float
    booked: float
    waiting: float
    priority: int | None = None
    """The highest priority at which its requests wait for a replica; None: none of them does."""


class RouterDemand(msgspec.Struct, frozen=True, array_like=True, tag="demand"):
    """What a router needs of the replicas; published every `DEMAND_PERIOD_S`."""

    booked: float
    """Parts of a replica that its requests hold, over all replicas."""
    waiting: float
    """Parts of a replica that its queue and its retry reservations wait for."""
    tenants: dict[str, TenantDemand] = {}


class RetryIssued(msgspec.Struct, frozen=True, array_like=True, tag="retry_issued"):
    """A rejected request was told when to retry, which it may do at any router. Times are relative,
    as routers have different clocks."""

    key: int
    priority: int
    retry_in_s: float
    expires_in_s: float


class RetryRedeemed(msgspec.Struct, frozen=True, array_like=True, tag="retry_redeemed"):
    """A request was retried, and was admitted or told another time."""

    key: int


class Cached(msgspec.Struct, frozen=True, array_like=True, tag="cached"):
    """The prompts' blocks that a replica has cached, for a router that has just begun."""

    replica_id: str
    blocks: dict[int, int]
    """The tokens of each block, least recently used first."""


class Turns(msgspec.Struct, frozen=True, array_like=True, tag="turns"):
    """All slots that adapters which wait at the router get next, in place of those of its message
    before."""

    turns: list[tuple[str, str, str]] = []
    """The replica, the adapter that yields its slot, and the one that gets it."""


class Used(msgspec.Struct, frozen=True, array_like=True, tag="used"):
    """A tenant with limits has used some of them, or less than it was thought to."""

    tenant: str
    running: int
    """Its unfinished requests at the router that publishes this."""
    requests: int = 0
    tokens: int = 0
    ago_s: float = 0.0
    """When, as routers have different clocks."""


class Usage(msgspec.Struct, frozen=True, array_like=True, tag="usage"):
    """What a tenant with limits has used, for a router that has just begun: pairs of an age in
    seconds and an amount."""

    tenant: str
    requests: list[tuple[float, int]]
    tokens: list[tuple[float, int]]
    day_tokens: list[tuple[float, int]]


LimitMessage = Used | Usage
BookingMessage = Placed | FirstToken | Released
RetryMessage = RetryIssued | RetryRedeemed
Message = BookingMessage | RetryMessage | RouterDemand | Cached | Turns

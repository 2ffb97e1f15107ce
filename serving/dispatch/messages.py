"""What routers tell each other of a model, small and plain, so that each knows what all know."""

import msgspec


class Placed(msgspec.Struct, frozen=True, array_like=True, tag="placed"):
    """A request was sent to a replica."""

    number: int
    """Unique among the unfinished requests of the router that placed it."""
    replica_id: str
    hashes: list[int]
    """This, `ends_tokens` and `answer` are the prompt's `Prefix`."""
    ends_tokens: list[int]
    answer: tuple[int, int] | None
    prompt_tokens: int
    output_tokens: int
    """What is expected of the answer."""
    cached_tokens: int
    """What of the prompt is expected to be cached there."""
    streamed: bool = True


class FirstToken(msgspec.Struct, frozen=True, array_like=True, tag="first_token"):
    """The first token of a request's answer was seen."""

    number: int


class Released(msgspec.Struct, frozen=True, array_like=True, tag="released"):
    """A request has left its replica, in whatever way."""

    number: int
    output_tokens: int = 0
    """The length of an answer that is complete; 0: it failed, or the client left."""


class RouterDemand(msgspec.Struct, frozen=True, array_like=True, tag="demand"):
    """What a router needs of the replicas; published every `DEMAND_PERIOD_S`."""

    booked: float
    """Parts of a replica that its requests hold, on all replicas together."""
    waiting: float
    """Parts of a replica that its queue and those who were told to come back wait for."""


class RetryIssued(msgspec.Struct, frozen=True, array_like=True, tag="retry_issued"):
    """A rejected request was told to come back, which it may do at any router. Times are relative,
    as each router has its own clock."""

    key: int
    priority: int
    retry_in_s: float
    expires_in_s: float


class RetryRedeemed(msgspec.Struct, frozen=True, array_like=True, tag="retry_redeemed"):
    """A request came back and was let in, or was told another time."""

    key: int


BookingMessage = Placed | FirstToken | Released
RetryMessage = RetryIssued | RetryRedeemed
Message = BookingMessage | RetryMessage | RouterDemand

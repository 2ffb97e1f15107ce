"""What changes a router's knowledge of its replicas, small and plain, so that other routers can
replay it."""

import msgspec


class Placed(msgspec.Struct, frozen=True, array_like=True, tag="placed"):
    """A request was sent to a replica."""

    request: int
    """A number that is unique among the unfinished requests of the router that placed it."""
    replica_id: str
    hashes: list[int]
    """The fields of Prefix, as are the next two."""
    ends_tokens: list[int]
    answer: tuple[int, int] | None
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    """Prompt tokens that are expected to be cached there."""
    streamed: bool = True


class FirstToken(msgspec.Struct, frozen=True, array_like=True, tag="first_token"):
    """The first token of its answer was seen."""

    request: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """The request is over, in whatever way."""

    request: int
    output_tokens: int = 0
    """Tokens of a complete answer; 0 if it failed or the client left."""


Event = Placed | FirstToken | Ended

"""What a replica can take at once."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of one replica, from its metadata."""

    kv_cache_tokens: int
    max_num_seqs: int
    """vLLM's batch: sequences that run at the same time."""
    max_itl_ms: float = math.inf
    """Between tokens, with all that is booked: more context would make its answers too slow."""

    def share(self, kv_tokens: int) -> float:
        """The part of a replica that a request takes, above 0 and at most 1: of its KV cache or of
        its batch, whichever is the larger part. The unit of all estimates, for it holds whether
        memory or batch is what runs out.
        """
        return min(1.0, max(kv_tokens / self.kv_cache_tokens, 1 / self.max_num_seqs))


UNLIMITED = Capacity(kv_cache_tokens=1 << 60, max_num_seqs=1 << 30)
"""Of a server that says nothing of its memory."""


class Load(Protocol):
    """What is booked on a replica, by all routers as far as is known."""

    @property
    def kv_tokens(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def context_tokens(self) -> int: ...
    def context_room_tokens(self, max_itl_ms: float, now_s: float) -> float: ...


class Replica(Protocol):
    @property
    def load(self) -> Load: ...
    @property
    def capacity(self) -> Capacity: ...


_ANY_TOKENS = UNLIMITED.kv_cache_tokens


def rooms_tokens(replicas: Iterable[Replica], now_s: float) -> list[int]:
    """Of each replica the KV tokens of a request that fits now; -1 if none does. A replica with
    nothing to do takes any request: the engine knows best whether it can.
    """
    rooms = []
    for replica in replicas:  # Dozens of them, at each request: so without a call for each.
        load, capacity = replica.load, replica.capacity
        requests = load.requests
        if requests >= capacity.max_num_seqs:
            rooms.append(-1)
        elif requests:
            room = capacity.kv_cache_tokens - load.kv_tokens
            if capacity.max_itl_ms < math.inf:
                in_time = load.context_room_tokens(capacity.max_itl_ms, now_s)
                if in_time < room:
                    room = int(in_time)
            rooms.append(room)
        else:
            rooms.append(_ANY_TOKENS)
    return rooms


def have_room(replicas: Iterable[Replica], tokens: float, now_s: float) -> bool:
    """Whether one of them has so many, as `rooms_tokens` has it."""
    for replica in replicas:
        load, capacity = replica.load, replica.capacity
        requests = load.requests
        if requests >= capacity.max_num_seqs:
            continue
        if not requests:
            return True
        if capacity.kv_cache_tokens - load.kv_tokens >= tokens and (
            capacity.max_itl_ms == math.inf
            or load.context_room_tokens(capacity.max_itl_ms, now_s) >= tokens
        ):
            return True
    return False


def used(replicas: Iterable[Replica]) -> float:
    """How much of the replicas is taken, in replicas: of each its memory or its batch, whichever
    is fuller.
    """
    return sum(
        max(
            replica.load.kv_tokens / replica.capacity.kv_cache_tokens,
            replica.load.requests / replica.capacity.max_num_seqs,
        )
        for replica in replicas
    )

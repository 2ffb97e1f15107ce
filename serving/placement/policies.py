"""Placement policies: the protocol, the simple ones, and the names a configuration has for them."""

import random
from collections.abc import Sequence
from typing import Literal, Protocol

from mmh3 import hash64

from serving.placement.least_cost import LeastCost
from serving.placement.load import ReplicaLoad
from serving.placement.work import Work


class Policy(Protocol):
    """Chooses a replica. A policy may have state, but none about the replicas, which change between
    calls."""

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        """Returns the index of the load to book `work` on. `cached_tokens` has, for each load, the
        prompt tokens that its replica has cached. Raises ValueError if `loads` is empty."""
        ...


class LeastTokens:
    """Picks the replica with the fewest tokens of prompts and expected answers in flight. Ties go
    to the fewest requests, then to the first.
    """

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        return min(range(len(loads)), key=lambda i: (loads[i].context_tokens, loads[i].requests))


class PowerOfTwo:
    """Samples two different replicas and picks the one with fewer requests."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        two = self._random.sample(range(len(loads)), min(2, len(loads)))
        return min(two, key=lambda i: loads[i].requests)


class RoundRobin:
    """Picks each replica in turn, whatever its load."""

    def __init__(self) -> None:
        self._placed = 0

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        if not loads:
            raise ValueError("no replica to choose from")
        self._placed += 1
        return (self._placed - 1) % len(loads)


class SessionHash:
    """Keeps a session on one replica for as long as that replica exists, whatever its load, by
    rendezvous hashing over the replicas' ids: when a replica goes, only its sessions move. Requests
    without a session are placed by `LeastTokens`.
    """

    def __init__(self) -> None:
        self._without_session = LeastTokens()

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        if not work.session:
            return self._without_session.choose(work, loads, cached_tokens, now_s)
        session = work.session
        return max(range(len(loads)), key=lambda i: hash64(f"{session}\0{loads[i].replica_id}")[0])


PolicyName = Literal["least_cost", "least_tokens", "power_of_two", "round_robin", "session_hash"]

_POLICIES: dict[PolicyName, type[Policy]] = {
    "least_cost": LeastCost,
    "least_tokens": LeastTokens,
    "power_of_two": PowerOfTwo,
    "round_robin": RoundRobin,
    "session_hash": SessionHash,
}

WAIT_FOR_CHOICE: frozenset[PolicyName] = frozenset({"least_cost", "session_hash"})
"""Policies whose choice matters: a waiting request waits for the replica that they choose. With the
others it takes any replica with headroom."""


def policy(name: PolicyName) -> Policy:
    """Returns a new instance, as some policies have state: each model needs its own."""
    return _POLICIES[name]()

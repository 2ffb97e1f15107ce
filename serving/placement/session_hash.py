"""Placement by the session that a request belongs to."""

from collections.abc import Sequence

from mmh3 import hash64

from serving.placement.least_tokens import LeastTokens
from serving.placement.load import ReplicaLoad
from serving.placement.work import Work


class SessionHash:
    """The same replica for a session as long as it is there, whatever its load: rendezvous hashing
    by the replicas' ids, so that only the sessions of a replica that goes move. A request without
    a session goes where the fewest tokens are in flight."""

    def __init__(self) -> None:
        self._without = LeastTokens()

    def choose(
        self,
        work: Work,
        loads: Sequence[ReplicaLoad],
        cached_tokens: Sequence[int],
        now_s: float,
    ) -> int:
        if not work.session:
            return self._without.choose(work, loads, cached_tokens, now_s)
        session = work.session
        return max(range(len(loads)), key=lambda i: hash64(f"{session}\0{loads[i].replica_id}")[0])

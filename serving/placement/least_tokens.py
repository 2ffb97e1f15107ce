"""Placement by the fewest tokens in flight."""

from collections.abc import Sequence

from serving.placement.load import ReplicaLoad
from serving.placement.work import Work


class LeastTokens:
    """The fewest tokens of prompts and expected answers; of equals, the fewest requests, then the
    first."""

    def choose(
        self,
        work: Work,
        loads: Sequence[ReplicaLoad],
        cached_tokens: Sequence[int],
        now_s: float,
    ) -> int:
        return min(range(len(loads)), key=lambda i: (loads[i].context_tokens, loads[i].requests))

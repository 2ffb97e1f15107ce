"""Placement by the fewest tokens in flight."""

from collections.abc import Sequence

from serving.placement.load import ReplicaLoad


def least_tokens(loads: Sequence[ReplicaLoad]) -> int:
    """The index of the load with the fewest tokens in flight; of equals, the fewest requests, then
    the first. Raises ValueError if there is none to choose from.
    """
    return min(range(len(loads)), key=lambda i: (loads[i].tokens, loads[i].requests))

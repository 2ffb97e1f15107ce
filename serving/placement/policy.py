"""What every placement policy is."""

from collections.abc import Sequence
from typing import Protocol

from serving.placement.load import ReplicaLoad
from serving.placement.work import Work


class Policy(Protocol):
    """Chooses a replica. It may have state of its own, but keeps nothing of the replicas: these
    come and go between two calls."""

    def choose(
        self,
        work: Work,
        loads: Sequence[ReplicaLoad],
        cached_tokens: Sequence[int],
        now_s: float,
    ) -> int:
        """The index of the load to book `work` on. `cached_tokens`: of its prompt, by load. Raises
        ValueError if there is none to choose from."""
        ...

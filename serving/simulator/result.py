"""The result of a run."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from serving.simulator.replicas import Replica
from serving.simulator.request import Outcome


@dataclass(frozen=True, slots=True)
class Slo:
    """The limits of a good request: its first token comes within `ttft_s` and the mean time between
    its tokens is at most `itl_s` (AIPerf's definition of goodput)."""

    ttft_s: float = 2.0
    itl_s: float = 0.025

    def met(self, outcome: Outcome) -> bool:
        ttft_s, itl_s = outcome.ttft_s, outcome.itl_s
        return (
            ttft_s is not None
            and ttft_s <= self.ttft_s
            and outcome.end_s is not None
            and (itl_s is None or itl_s <= self.itl_s)
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """The replicas at one moment, and the number of fully used ones that the arriving work
    needs."""

    at_s: float
    up: int
    starting: int
    draining: int
    demand: float
    waiting: int


@dataclass(frozen=True, slots=True)
class Result:
    """The outcomes and replicas of a run, which ended at `end_s`."""

    outcomes: Sequence[Outcome]
    replicas: Sequence[Replica]
    samples: Sequence[Sample]
    end_s: float

    def itl_histogram(self) -> dict[int, int]:
        """A histogram of all times between tokens; see `histogram_quantile_s`."""
        histogram: Counter[int] = Counter()
        for replica in self.replicas:
            histogram.update(replica.engine.itl_histogram)
        return histogram


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of the sorted `values` that at least a share `q` of them does not exceed."""
    return values[max(math.ceil(q * len(values)) - 1, 0)]

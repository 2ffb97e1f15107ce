"""Distributions of times, cheap to add to and read only when they are scraped."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from serving.router import objectives

_SHORTEST_S, _LONGEST_S = 1e-4, 1e3
_STEP = 1.02
"""From one edge to the next: a quantile is within 2 % of the right one."""
_WINDOW_S = 60.0


def _fine_edges() -> list[float]:
    steps = round(math.log(_LONGEST_S / _SHORTEST_S, _STEP))
    edges = {_SHORTEST_S * _STEP**step for step in range(steps + 1)}
    edges.update(objectives.TTFT_EDGES_S, objectives.ITL_EDGES_S)
    edges.update(objectives.DURATION_EDGES_S, objectives.QUEUE_EDGES_S)
    return sorted(edges)


EDGES_S = _fine_edges()
"""Inclusive upper ends of all buckets but the last, which has none."""


class Latency:
    """Of one kind. `counts` and `sum_s` only grow."""

    __slots__ = ("_before", "_began_s", "_clock", "_since", "counts", "sum_s")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = [0] * (len(EDGES_S) + 1)
        self.sum_s = 0.0
        self._clock = clock
        self._began_s = clock()
        self._since = self._before = self.counts.copy()

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(EDGES_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self, edges_s: Sequence[float]) -> list[tuple[str, float]]:
        """As Prometheus has them: how many were no longer than each of `edges_s`, which are some of
        EDGES_S, and than infinity.
        """
        ends = [0, *(bisect_left(EDGES_S, edge_s) + 1 for edge_s in edges_s), len(self.counts)]
        counts = accumulate(sum(self.counts[begin:end]) for begin, end in pairwise(ends))
        return list(zip([*map(str, edges_s), "+Inf"], counts, strict=True))

    def recent(self, quantiles: Sequence[float]) -> list[float]:
        """Of what was observed in the last minute or two (longer ago if nobody asked since): each
        quantile in seconds, NaN if there was nothing.
        """
        now_s = self._clock()
        if now_s - self._began_s >= _WINDOW_S:
            self._before, self._since = self._since, self.counts.copy()
            self._began_s = now_s
        counts = [now - before for now, before in zip(self.counts, self._before, strict=True)]
        total = sum(counts)
        if not total:
            return [math.nan] * len(quantiles)
        ranks = list(accumulate(counts))
        return [self._at(quantile * total, counts, ranks) for quantile in quantiles]

    @staticmethod
    def _at(rank: float, counts: list[int], ranks: list[int]) -> float:
        bucket = bisect_left(ranks, rank)
        if bucket == len(EDGES_S):
            return EDGES_S[-1]
        low_s = EDGES_S[bucket - 1] if bucket else 0.0
        part = 1 - (ranks[bucket] - rank) / counts[bucket]
        return low_s + (EDGES_S[bucket] - low_s) * part


class StreamClock:
    """The times of one stream, as its client sees them."""

    __slots__ = ("_itl", "_last_s", "_started", "_ttft")

    def __init__(self, began_s: float, ttft: Latency, itl: Latency) -> None:
        """`began_s`: when the request came, by time.monotonic()."""
        self._last_s = began_s
        self._started = False
        self._ttft, self._itl = ttft, itl

    def sent(self, tokens: int) -> None:
        """Called as so many tokens go to the client at once: the first of them has waited since the
        last time, the others came with it.
        """
        now_s = time.monotonic()
        if self._started:
            itl = self._itl
            if tokens:
                seconds = now_s - self._last_s
                itl.counts[bisect_left(EDGES_S, seconds)] += 1
                itl.sum_s += seconds
                if tokens > 1:
                    itl.counts[0] += tokens - 1
                self._last_s = now_s
        else:
            self._started = True
            self._ttft.observe(now_s - self._last_s)
            self._last_s = now_s

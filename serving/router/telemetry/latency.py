"""Distributions of times that are cheap to add to; samples are binned in batches."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from operator import sub

import numpy as np
import numpy.typing as npt

from serving.router.telemetry import objectives

_SHORTEST_S, _LONGEST_S = 1e-4, 1e3
_STEP = 1.02
"""Ratio of consecutive edges: a quantile is accurate to 2 %."""
WINDOW_S = 60.0
_MOST_UNCOUNTED = 500


def _fine_edges() -> list[float]:
    steps = round(math.log(_LONGEST_S / _SHORTEST_S, _STEP))
    edges = {_SHORTEST_S * _STEP**step for step in range(steps + 1)}
    edges.update(objectives.TTFT_EDGES_S, objectives.ITL_EDGES_S)
    edges.update(objectives.DURATION_EDGES_S, objectives.QUEUE_EDGES_S)
    return sorted(edges)


EDGES_S = _fine_edges()
"""Inclusive upper bounds of all buckets but the last, which is unbounded."""
_EDGES_S = np.array(EDGES_S)


class Latency:
    """The distribution of one kind of time."""

    __slots__ = ("_before", "_began_s", "_clock", "_counts", "_since", "_sum_s", "_uncounted")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._uncounted: list[float] = []
        self._counts = np.zeros(len(EDGES_S) + 1, np.int64)
        self._sum_s = 0.0
        self._clock = clock
        self._began_s = clock()
        self._since = self._before = self._counts.copy()

    def observe(self, seconds: float) -> None:
        self.observe_all((seconds,))

    def observe_all(self, seconds: Iterable[float]) -> None:
        self._uncounted += seconds
        if len(self._uncounted) >= _MOST_UNCOUNTED:
            self._count()

    def _count(self) -> None:
        """Bins pending samples in one batch, which is cheaper per sample."""
        buckets = np.searchsorted(_EDGES_S, self._uncounted)
        self._counts += np.bincount(buckets, minlength=len(self._counts))
        self._sum_s += sum(self._uncounted)
        self._uncounted.clear()

    def __len__(self) -> int:
        self._count()
        return int(self._counts.sum())

    @property
    def sum_s(self) -> float:
        self._count()
        return self._sum_s

    def buckets(self, edges_s: Sequence[float]) -> list[tuple[str, float]]:
        """Returns cumulative buckets in Prometheus' format for `edges_s`, which must be among
        EDGES_S, and for infinity."""
        self._count()
        ends = [bisect_left(EDGES_S, edge_s) + 1 for edge_s in edges_s]
        counts = [self._counts[:end].sum() for end in (*ends, None)]
        return list(zip([*map(str, edges_s), "+Inf"], map(float, counts), strict=True))

    def recent(self, quantiles: Sequence[float]) -> list[float]:
        """Returns quantiles in seconds over the last minute or two (longer if not called since),
        NaN if nothing was observed."""
        self._count()
        now_s = self._clock()
        if now_s - self._began_s >= WINDOW_S:
            self._before, self._since = self._since, self._counts.copy()
            self._began_s = now_s
        ranks = np.cumsum(self._counts - self._before)
        return [_at(quantile, ranks) for quantile in quantiles]


def _at(quantile: float, ranks: npt.NDArray[np.int64]) -> float:
    """Returns a quantile; `ranks` are the cumulative counts of the buckets."""
    if not ranks[-1]:
        return math.nan
    rank = quantile * ranks[-1]
    bucket = int(np.searchsorted(ranks, rank))
    if bucket == len(EDGES_S):
        return EDGES_S[-1]
    low_s, below = (EDGES_S[bucket - 1], ranks[bucket - 1]) if bucket else (0.0, 0)
    return float(low_s + (EDGES_S[bucket] - low_s) * (rank - below) / (ranks[bucket] - below))


class StreamClock:
    """The token times of one stream, as its client sees them."""

    __slots__ = ("_itl", "_last_s", "_started", "_ttft")

    def __init__(self, began_s: float, ttft: Latency, itl: Latency) -> None:
        """`began_s` is the arrival time of the request, by time.monotonic()."""
        self._last_s = began_s
        self._started = False
        self._ttft, self._itl = ttft, itl

    def sent(self, tokens: int, now_s: float) -> None:
        """Records tokens that were sent to the client at once: the first has waited since the last
        call, the others came with it. The first tokens of an answer count as one."""
        if not self._started:
            self._started = True
            self._ttft.observe(now_s - self._last_s)
        elif tokens:
            self._itl.observe(now_s - self._last_s)
            for _ in range(tokens - 1):
                self._itl.observe(0.0)
        else:
            return
        self._last_s = now_s

    def all_sent(self, tokens: Sequence[int], times_s: Sequence[float]) -> None:
        """Records many events in one call; see `sent`."""
        if self._started and tokens.count(1) == len(tokens):
            self._itl.observe_all(map(sub, times_s, [self._last_s, *times_s]))
            self._last_s = times_s[-1]
            return
        for one, now_s in zip(tokens, times_s, strict=True):
            self.sent(one, now_s)

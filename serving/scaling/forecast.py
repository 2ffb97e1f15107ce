"""Forecasts a quantity for the time when a replica that is started now will be up."""

from dataclasses import dataclass
from itertools import combinations, pairwise
from math import sqrt

from serving.scaling.history import SLOTS, History, Slot

_CERTAIN = 3.0
"""Standard errors by which a later part must exceed the rest to replace it. The number is high
because the question is asked every two seconds and lengths vary more than a normal distribution's.
"""
_LEAST_SLOTS = 4
"""Least number of slots: with fewer, the noise is unknown."""


@dataclass(frozen=True, slots=True)
class Forecast:
    demand: float
    growth: float = 1.0
    """Expected growth factor from now to that time, by the trend; at least 1."""


def forecast_rate(history: History, horizon_s: float) -> Forecast | None:
    """Forecasts a rate, whose slots vary independently. None if too little was seen.

    The mean of the window, which varies little by chance, is projected to now by its trend. The
    mean of a later part of the window replaces it if that is more even without its noise: a step is
    seen once it exceeds the noise, and no later. A rising trend is extended no further ahead than
    it was observed.
    """
    if len(history.slots) <= _LEAST_SLOTS:
        return None
    full = history.full
    slot_s = sum(slot.span_s for slot in full) / len(full)
    noise = _CERTAIN * _deviation(full)
    recent = list(history.recent())[1:]  # The newest slot alone is of two seconds, at times.
    burst = max(mean - noise * sqrt(slot_s / span_s) for mean, span_s in recent)
    slope = max(0.0, _slope(full, noise))
    now = max(history.mean + slope * history.span_s / 2, burst)
    rise = slope * min(horizon_s, history.span_s)
    return Forecast(now + rise, 1 + rise / now if rise else 1.0)


def forecast_level(history: History, requests: float, headroom: float, growth: float) -> float:
    """Forecasts a quantity that `requests` hold from slot to slot, so that it varies with the
    square root of their number. `headroom` is the share of a replica that is kept free for such
    variation. The quantity is expected to grow as the arrivals do, not by its own trend, which may
    have been a queue that formed or ended."""
    level = max((mean for mean, _ in history.recent()), default=0.0)
    noise = min(headroom, _CERTAIN / sqrt(max(requests, 1.0)))
    return max(history.mean, level * (1 - noise)) * growth


def _deviation(slots: list[Slot]) -> float:
    """The standard deviation of a slot from the true mean, by the differences of neighbours, on
    which a trend has little effect. The largest difference is ignored, as it may be a step."""
    squares = sorted((b.mean - a.mean) ** 2 for a, b in pairwise(slots))[:-1]
    return sqrt(sum(squares) / (2 * len(squares)))


def _slope(slots: list[Slot], noise: float) -> float:
    """The slope per second, less its noise; 0 if less than half a window was seen. Two thirds of
    all pairs of slots exceed it, in the manner of Theil and Sen, who take the median: at most 6/11
    of the pairs are on both sides of a step."""
    if len(slots) < SLOTS / 2:
        return 0.0
    slopes = [(b.mean - a.mean) / (b.middle_s - a.middle_s) for a, b in combinations(slots, 2)]
    span_s = slots[-1].end_s - slots[0].begin_s
    return sorted(slopes)[len(slopes) // 3] - noise * sqrt(12 / len(slots)) / span_s

"""What a quantity will be, and between which bounds that is certain enough to act on."""

from dataclasses import dataclass
from itertools import combinations, pairwise
from math import inf, sqrt

from serving.scaling.history import SLOTS, History, Slot

_CERTAIN = 2.5
"""Standard errors by which an estimate must be off before anything is done for it: of 160 decisions
that nothing calls for, 159 are not taken."""
_LEAST_SLOTS = 4
"""Below which nothing is known of the noise."""


@dataclass(frozen=True, slots=True)
class Forecast:
    low: float = 0.0
    """At least so much is needed when what is started now will be up."""
    high: float = inf
    """At most so much is needed now."""
    growth: float = 1.0
    """From now to then, by the trend; at least 1."""


UNKNOWN = Forecast()


def of_flow(history: History, horizon_s: float, window_s: float) -> Forecast:
    """Of a rate, whose slots vary independently. UNKNOWN if too little was seen.

    `low` is the highest of the recent means, over any part of the window, each less its noise: a
    step is seen as soon as it exceeds the noise, and no later. A rising trend goes on, no further
    ahead than was seen back.
    """
    if len(history.slots) <= _LEAST_SLOTS:
        return UNKNOWN
    full = history.full
    slot_s = sum(slot.span_s for slot in full) / len(full)
    noise = _CERTAIN * _deviation(full)
    recent = list(history.recent())
    low = max(0.0, *(mean - noise * sqrt(slot_s / span_s) for mean, span_s in recent))
    rise = _slope(full, noise) * min(horizon_s, history.span_s)
    growth = 1 + rise / max(mean for mean, _ in recent) if rise > 0 else 1.0
    return Forecast(low + max(0.0, rise), _high(history, window_s), growth)


def of_stock(
    history: History,
    requests: float,
    headroom: float,
    growth: float,
    horizon_s: float,
    window_s: float,
) -> Forecast:
    """Of something that so many `requests` have, and keep from slot to slot: their number varies
    by its root. For as much of that as is `headroom`, a part of the whole, there is room. It will
    grow as they do, not as it did: that may have been a line, or its end. UNKNOWN if too little was
    seen.
    """
    if len(history.slots) <= _LEAST_SLOTS:
        return UNKNOWN
    level = max(mean for mean, _ in history.recent())
    noise = min(headroom, _CERTAIN / sqrt(max(requests, 1.0)))
    # But nothing is released while it rises.
    rise = max(0.0, _slope(history.full, 0.0)) * min(horizon_s, history.span_s)
    return Forecast(level * (1 - noise) * growth, _high(history, window_s) + rise, growth)


def _high(history: History, window_s: float) -> float:
    """The mean of a whole window and its noise: what was once needed is forgotten as slowly as it
    is got back.
    """
    if history.span_s < window_s * (1 - 1 / SLOTS):
        return inf
    full = history.full
    return history.mean + _CERTAIN * _deviation(full) / sqrt(len(full))


def _deviation(slots: list[Slot]) -> float:
    """Of a slot from the true mean: from the differences of neighbours, in which a trend or a step
    counts little."""
    squares = [(b.mean - a.mean) ** 2 for a, b in pairwise(slots)]
    return sqrt(sum(squares) / (2 * len(squares)))


def _slope(slots: list[Slot], noise: float) -> float:
    """Per second, less its noise; 0 of less than half a window. That which two thirds of all pairs
    of slots exceed, after Theil and Sen, who take the median: of a step, no more than 6/11 of the
    pairs are across it."""
    if len(slots) < SLOTS / 2:
        return 0.0
    slopes = [(b.mean - a.mean) / (b.middle_s - a.middle_s) for a, b in combinations(slots, 2)]
    span_s = slots[-1].end_s - slots[0].begin_s
    return sorted(slopes)[len(slopes) // 3] - noise * sqrt(12 / len(slots)) / span_s

"""The recent past of a quantity."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

SLOTS = 12
"""Number of slots in a window: enough to distinguish a trend from noise, and to see a burst within
one."""


@dataclass(slots=True)
class Slot:
    """The mean of a quantity between two times."""

    begin_s: float
    end_s: float
    mean: float

    @property
    def span_s(self) -> float:
        return self.end_s - self.begin_s

    @property
    def middle_s(self) -> float:
        return (self.begin_s + self.end_s) / 2


class History:
    """The slots of a window that ends now. The newest slot is usually incomplete."""

    def __init__(self) -> None:
        self.slots: deque[Slot] = deque()
        self._now_s: float | None = None

    def add(self, value: float, now_s: float, window_s: float) -> None:
        """Adds the mean value of the quantity since the last call. The first value is ignored, as
        the start of its interval is unknown."""
        before_s, self._now_s = self._now_s, now_s
        if before_s is None or now_s <= before_s:
            return
        slots = self.slots
        if not slots or slots[-1].span_s >= window_s / SLOTS * (1 - 1e-6):
            slots.append(Slot(before_s, before_s, 0.0))
        slot = slots[-1]
        slot.mean += (value - slot.mean) * (now_s - before_s) / (now_s - slot.begin_s)
        slot.end_s = now_s
        while slots[0].end_s <= now_s - window_s:
            slots.popleft()

    @property
    def full(self) -> list[Slot]:
        """All slots but the newest."""
        return list(self.slots)[:-1]

    @property
    def span_s(self) -> float:
        return self.slots[-1].end_s - self.slots[0].begin_s if self.slots else 0.0

    @property
    def mean(self) -> float:
        span_s = self.span_s
        return sum(slot.mean * slot.span_s for slot in self.slots) / span_s if span_s else 0.0

    def recent(self) -> Iterator[tuple[float, float]]:
        """The means from the beginning of each slot until now, the newest first, and the seconds
        that each covers."""
        total, span_s = 0.0, 0.0
        for slot in reversed(self.slots):
            total += slot.mean * slot.span_s
            span_s += slot.span_s
            yield total / span_s, span_s

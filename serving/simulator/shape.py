"""The rate of a load over time."""

import math
from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """How a rate goes from `low` to `high`. `step`: after a third of the time. `spike`: for a tenth
    of the time, after two fifths of it. `day`: as a cosine, with `high` in the middle and `low` at
    both ends."""

    steady = "steady"
    step = "step"
    spike = "spike"
    day = "day"


@dataclass(frozen=True, slots=True)
class Shape:
    form: Form
    low_per_s: float
    high_per_s: float
    """Highest rate; the steady form ignores it."""
    seconds: float

    @property
    def most_per_s(self) -> float:
        if self.form is Form.steady:
            return self.low_per_s
        return max(self.low_per_s, self.high_per_s)

    def per_s(self, at_s: float) -> float:
        """The rate at a time; after the end it stays constant."""
        part = min(at_s / self.seconds, 1.0)
        match self.form:
            case Form.steady:
                high = 0.0
            case Form.step:
                high = float(part >= 1 / 3)
            case Form.spike:
                high = float(0.4 <= part < 0.5)
            case Form.day:
                high = (1 - math.cos(2 * math.pi * part)) / 2
        return self.low_per_s + (self.high_per_s - self.low_per_s) * high

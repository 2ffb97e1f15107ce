"""How fast room is freed."""

import math

_MEMORY_S = 60.0
"""Time constant with which the past is forgotten."""
_FULL_GUESS_S = 10.0
"""Weight of the guess that a full fleet has all of its capacity booked."""


class DrainRate:
    """The parts of a replica that requests leave per second when the fleet is full, from how long
    those that left had theirs.

    By Little's law what is booked = rate x time of stay. The time of stay can be observed at any
    load and outlives idle times and changes of the number of replicas, which the bare count of
    those who left in some window does not. The clock runs only while something is booked.
    """

    def __init__(self, stay_s: float, now_s: float) -> None:
        """`stay_s` is the first guess of how long a request stays on a replica; it weighs as much
        as the requests that fill the fleet once.
        """
        self.booked = 0.0
        """Parts of a replica."""
        self.capacity = 1.0
        """As many replicas, of which some may be other routers'."""
        self.full = False
        """Whether someone waits: to be set as it changes, before the clock moves on."""
        self._now_s = now_s
        # Both as parts of the capacity and decaying; their ratio is the time of stay.
        self._booked_s = stay_s
        self._left = 1.0
        # How much of the capacity is booked while someone waits: less where rooms do not fit the
        # requests, more where some fill the batch and others the memory.
        self._full_s = _FULL_GUESS_S
        self._full_booked_s = _FULL_GUESS_S

    def book(self, share: float, now_s: float) -> None:
        self._advance(now_s)
        self.booked += share

    def release(self, share: float, served: bool, now_s: float) -> None:
        """One that failed frees its room, but says nothing of how fast requests are served."""
        self._advance(now_s)
        self.booked = max(0.0, self.booked - share)
        if served:
            self._left += share / self.capacity

    def set_capacity(self, capacity: float, now_s: float) -> None:
        self._advance(now_s)
        self.capacity = capacity

    @property
    def stay_s(self) -> float:
        return self._booked_s / self._left

    @property
    def per_s(self) -> float:
        """Parts of a replica per second."""
        return self.capacity * self._full_booked_s / self._full_s / self.stay_s

    def _advance(self, now_s: float) -> None:
        elapsed_s = now_s - self._now_s
        self._now_s = now_s
        if elapsed_s <= 0 or self.booked < 1e-9:
            return
        kept = math.exp(-elapsed_s / _MEMORY_S)
        added_s = _MEMORY_S * (1 - kept)
        booked = self.booked / self.capacity
        self._booked_s = self._booked_s * kept + booked * added_s
        self._left *= kept
        if self.full:
            self._full_s = self._full_s * kept + added_s
            self._full_booked_s = self._full_booked_s * kept + booked * added_s

"""The rate at which a full fleet serves requests."""

import math

RESIDENCE_TIME_S = 10.0
"""First guess of how long a request stays on a replica: an answer of 400 tokens at 25 ms each."""

_MEMORY_S = 60.0
"""Time constant with which the past is forgotten."""
_FULL_GUESS_S = 10.0
"""Weight of the guess that a full fleet has all of its capacity booked."""


_LEAST_LEFT = 1e-9
"""Keeps the rate above 0 where requests hold the fleet for half a day and none ends."""


class ServiceRate:
    """The parts of a replica that are released per second when the fleet is full, from the
    residence times of released requests.

    By Little's law, booked parts = rate x residence time. The residence time can be observed at any
    load and outlasts idle times and changes in the number of replicas, unlike a count of releases
    in some window. The clock runs only while something is booked.
    """

    def __init__(self, now_s: float, residence_time_s: float = RESIDENCE_TIME_S) -> None:
        """`residence_time_s` is a first guess, weighted as the requests that fill the fleet
        once."""
        self.booked = 0.0
        """The booked parts of a replica."""
        self.capacity = 1.0
        """The replicas that this router may fill: all of them, or its quota."""
        self.replicas = 1.0
        self.others_demand = 0.0
        """Parts of a replica that other routers hold and wait for."""
        self.is_full = False
        """Whether a request waits; must be set when it changes, before the clock advances."""
        self._now_s = now_s
        # Both as parts of the capacity and decaying; their ratio is the residence time.
        self._booked_s = residence_time_s
        self._left = 1.0
        # How much of the capacity is booked while requests wait: less where the headroom does not
        # fit them, more where some fill the batch and others the memory.
        self._full_s = _FULL_GUESS_S
        self._full_booked_s = _FULL_GUESS_S

    def book(self, share: float, now_s: float) -> None:
        self._advance(now_s)
        self.booked += share

    def release(self, share: float, served: bool, now_s: float) -> None:
        """Releases a share. A failed request does not count towards the residence time."""
        self._advance(now_s)
        self.booked = max(0.0, self.booked - share)
        if served:
            self._left += share / self.capacity

    def set_capacity(self, capacity: float, now_s: float) -> None:
        self._advance(now_s)
        self.capacity = capacity

    @property
    def residence_time_s(self) -> float:
        return self._booked_s / self._left

    @property
    def per_s(self) -> float:
        """The rate in parts of a replica per second."""
        return self.capacity * self._full_booked_s / self._full_s / self.residence_time_s

    def per_s_with(self, waiting: float) -> float:
        """The rate once the quotas have followed this router's demand, of which `waiting` parts are
        in its queue. The quota of a router that was idle while others fill the fleet, such as a new
        one, is next to nothing until then."""
        demand = self.booked + waiting
        fair = self.replicas * demand / (demand + self.others_demand) if self.others_demand else 0.0
        return max(self.capacity, fair) / self.capacity * self.per_s

    def _advance(self, now_s: float) -> None:
        elapsed_s = now_s - self._now_s
        self._now_s = now_s
        if elapsed_s <= 0 or self.booked < 1e-9:
            return
        kept = math.exp(-elapsed_s / _MEMORY_S)
        added_s = _MEMORY_S * (1 - kept)
        booked = self.booked / self.capacity
        self._booked_s = self._booked_s * kept + booked * added_s
        self._left = max(self._left * kept, _LEAST_LEFT)
        if self.is_full:
            self._full_s = self._full_s * kept + added_s
            self._full_booked_s = self._full_booked_s * kept + booked * added_s

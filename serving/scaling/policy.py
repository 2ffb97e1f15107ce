"""The scaling policy: the offered work, divided by what a replica does."""

from collections import deque
from dataclasses import replace
from math import inf

from serving.scaling.config import ScalingConfig
from serving.scaling.decision import Bound, Decision, Signal
from serving.scaling.forecast import forecast_level, forecast_rate
from serving.scaling.history import SLOTS, History
from serving.scaling.observed import Observed
from serving.scaling.signals import HEADROOM, Reading, readings

_LEAST_HORIZON_S = 30.0
"""Shortest horizon, however fast replicas start: a shorter time says nothing about a load."""
_WINDOW_HORIZONS = 2
"""Length of the window whose mean is the demand, in horizons. A shorter window follows chance, a
longer one lags."""
_SPARE = 1.05
"""Factor by which the demand must fit fewer replicas before one goes: without it the number of
replicas would oscillate at a boundary."""
_RATE_WINDOWS = 5
"""Number of windows over which the measured prefill rate is averaged. The rate falls as replicas
fill up, so decisions by its newest value would undo each other."""


class ScalingPolicy:
    """Scales up at once, to the number of replicas that will be needed when the new ones are up: by
    the mean of a window, its trend, and its later part where chance hardly explains the excess over
    the rest.

    Scales down one replica at a time, once fewer were enough for as long as it takes to start one:
    keeping a replica longer costs more than starting it again.

    It remembers little more than the window. Without memory, as after a restart, it stops nothing,
    and starts what running and waiting requests need.
    """

    def __init__(self, config: ScalingConfig) -> None:
        self._config = config
        self._histories: dict[Signal, History] = {}
        self._prefill_rate = History()
        self._needed: deque[tuple[float, int]] = deque()
        """Times and the number of replicas needed then, as long as no more were needed later."""
        self._began_s: float | None = None
        self._busy_s = -inf
        """Time at which there was work last."""
        self._released_s = -inf

    def decide(self, observed: Observed, now_s: float) -> Decision:
        horizon_s = max(observed.startup_s, _LEAST_HORIZON_S)
        window_s = _WINDOW_HORIZONS * horizon_s
        if self._began_s is None:
            self._began_s = self._busy_s = now_s
        if observed.busy:
            self._busy_s = now_s
        self._prefill_rate.add(observed.prefill_tokens_per_s, now_s, _RATE_WINDOWS * window_s)
        if self._prefill_rate.slots:
            observed = replace(observed, prefill_tokens_per_s=self._prefill_rate.mean)
        needs = self._needs(observed, horizon_s, window_s, now_s)
        most = max(needs, key=lambda need: need.demand / need.target)
        needed = max(most.replicas, 1 if observed.busy else 0)
        spared = replace(most, demand=most.demand * _SPARE)
        recently = self._recent(max(needed, spared.replicas), horizon_s, now_s)
        if needed >= observed.replicas:
            return self._bounded(most.decision(needed))
        bound = self._kept_by(observed, recently, window_s, now_s)
        if bound is not None:
            return self._bounded(most.decision(observed.replicas, bound))
        self._released_s = now_s
        return self._bounded(most.decision(observed.replicas - 1))

    def _needs(
        self, observed: Observed, horizon_s: float, window_s: float, now_s: float
    ) -> list[Reading]:
        """Demand that each signal is expected to reach."""
        needs = []
        growth = 1.0
        for reading in readings(observed, self._config.prefill_utilization, horizon_s):
            history = self._histories.setdefault(reading.signal, History())
            history.add(reading.demand, now_s, window_s)
            if reading.signal == "prefill":
                forecast = forecast_rate(history, observed.startup_s)
                demand = 0.0 if forecast is None else forecast.demand
                growth = 1.0 if forecast is None else forecast.growth
            else:
                requests = observed.running_requests + observed.waiting_requests
                demand = forecast_level(history, requests, HEADROOM, growth)
                if not observed.up:
                    demand = max(demand, reading.demand)  # All of it waits: no forecast.
            needs.append(replace(reading, demand=demand))
        if observed.waiting_prefill_tokens:
            # To be done while further replicas start, beside what arrives meanwhile.
            backlog = observed.waiting_prefill_tokens / horizon_s
            demand = self._histories["prefill"].mean + backlog
            needs.append(Reading("waiting", demand, observed.prefill_tokens_per_s))
        return needs

    def _recent(self, needed: int, seconds: float, now_s: float) -> int:
        """The highest number of replicas needed within the last `horizon_s`."""
        while self._needed and (
            self._needed[0][0] <= now_s - seconds or self._needed[0][1] <= needed
        ):
            self._needed.popleft()
        while self._needed and self._needed[-1][1] <= needed:
            self._needed.pop()
        self._needed.append((now_s, needed))
        return self._needed[0][1]

    def _kept_by(
        self, observed: Observed, recently: int, window_s: float, now_s: float
    ) -> Bound | None:
        """The reason not to remove a replica; None if there is none."""
        assert self._began_s is not None
        fewer = observed.replicas - 1
        if fewer < self._config.min_replicas:
            return "min_replicas"
        if now_s - self._began_s < window_s:
            return "history"
        if recently > fewer:
            return "recent_need"
        if fewer < observed.least_for_running:
            return "running_streams"
        if fewer == 0 and now_s - self._busy_s < max(self._config.idle_s, window_s):
            return "idle_time"
        # Nor before the effect of the last change can be seen.
        if observed.draining or now_s - self._released_s < window_s / SLOTS:
            return "one_drain"
        return None

    def _bounded(self, decision: Decision) -> Decision:
        least, most = self._config.min_replicas, self._config.max_replicas
        if decision.replicas < least:
            return replace(decision, replicas=least, bound="min_replicas")
        if decision.replicas > most:
            return replace(decision, replicas=most, bound="max_replicas")
        return decision

"""How many replicas: the work that is offered, over what a replica does."""

import math
from collections import deque
from dataclasses import dataclass, replace

from serving.scaling.decision import Bound, Decision, Signal
from serving.scaling.forecast import of_flow, of_stock
from serving.scaling.history import SLOTS, History
from serving.scaling.need import Need, WithFewer
from serving.scaling.observed import Observed
from serving.scaling.signals import HEADROOM, readings

_LEAST_WINDOW_S = 30.0
"""However fast replicas start: less says nothing of a load."""
_LEARNING_WINDOWS = 2
"""Before anything is released. The first may be of caches that fill and answers that begin."""
_TRIAL_WINDOWS = 10
_MOST_PATIENCE = 16
_RATE_WINDOWS = 10
"""Of which the measured prefill rate is the mean. It falls as replicas are fuller: decisions by the
newest would undo each other."""


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    min_replicas: int = 1
    """0: none while there is nothing to do."""
    max_replicas: int = 1
    prefill_utilization: float = 0.6
    """Of a replica's time, how much a load's prefill is to take on average. Answers wait meanwhile:
    the time between their tokens is that of a decode step / (1 - prefill_utilization)."""
    idle_s: float = 600.0
    """How long the last replica stays with nothing to do, where `min_replicas` is 0."""


class ScalingPolicy:
    """Up as soon as more is needed for certain, by as many as are needed when they will be up. Down
    one at a time, as soon as fewer were enough over the time that it takes to get one back: to keep
    one that is not needed for longer costs more than to start it again. Certain is what chance does
    hardly make of a load that stays the same; and a release that is soon regretted makes the next
    wait twice as long.

    It remembers little more than that time. Without, as after a restart, it stops nothing, and
    starts what those who wait need.
    """

    def __init__(self, config: ScalingConfig) -> None:
        self._config = config
        self._histories: dict[Signal, History] = {}
        self._prefill_rate = History()
        self._needed: deque[tuple[float, int]] = deque()
        """How many replicas were needed when, as long as no more were later."""
        self._began_s: float | None = None
        self._busy_s: float | None = None
        """When there was something to do last."""
        self._released_s = -math.inf
        self._on_trial_s: float | None = None
        """When one was released of which it is not known yet whether it was missed."""
        self._patience = 1
        """Windows since so many were needed, before one is released."""

    def decide(self, observed: Observed, now_s: float) -> Decision:
        window_s = max(observed.startup_s, _LEAST_WINDOW_S)
        self._prefill_rate.add(observed.prefill_tokens_per_s, now_s, _RATE_WINDOWS * window_s)
        if self._prefill_rate.slots:
            observed = replace(observed, prefill_tokens_per_s=self._prefill_rate.mean)
        needs = self._needs(observed, window_s, now_s)
        if self._began_s is None:
            self._began_s = now_s
        if observed.busy or self._busy_s is None:
            self._busy_s = now_s
        more = max(needs, key=lambda need: need.low / need.target)
        at_least = max(more.at_least, 1 if observed.busy else 0)
        replicas = observed.replicas
        self._judge(at_least > replicas, window_s, now_s)
        recently = self._recent(at_least, self._patience * window_s, now_s)
        if at_least >= replicas:
            return self._bounded(more.decision(at_least, more.low))
        with_fewer = WithFewer.of(observed, self._histories["prefill"].mean, window_s)
        fewer = max(
            (need.with_fewer(with_fewer) for need in needs),
            key=lambda need: need.high / need.target,
        )
        bound = self._kept_by(observed, fewer, recently, window_s, now_s)
        if bound is not None:
            value = fewer.high if math.isfinite(fewer.high) else fewer.low
            return self._bounded(fewer.decision(replicas, value, bound))
        self._released_s = self._on_trial_s = now_s
        return self._bounded(fewer.decision(replicas - 1, fewer.high))

    def _needs(self, observed: Observed, window_s: float, now_s: float) -> list[Need]:
        needs = []
        growth = 1.0
        for reading in readings(observed, self._config.prefill_utilization, window_s):
            history = self._histories.setdefault(reading.signal, History())
            history.add(reading.demand, now_s, window_s)
            if reading.signal == "prefill":
                certain = of_flow(history, observed.startup_s, window_s)
                growth = certain.growth
            else:
                requests = observed.running_requests + observed.waiting_requests
                certain = of_stock(
                    history, requests, HEADROOM, growth, observed.startup_s, window_s
                )
            low = certain.low
            if not observed.up and reading.signal != "prefill":
                low = max(low, reading.demand)  # All of it waits: no rate, but a fact.
            needs.append(Need(reading.signal, reading.target, low, max(low, certain.high)))
        if observed.waiting_prefill_tokens:
            # To be done in the time that further replicas take, beside what comes meanwhile.
            backlog = observed.waiting_prefill_tokens / window_s
            value = self._histories["prefill"].mean + backlog
            needs.append(Need("waiting", observed.prefill_tokens_per_s, value, value))
        return needs

    def _judge(self, more: bool, window_s: float, now_s: float) -> None:
        """A release that is soon regretted doubles the patience, one that is not halves it."""
        if self._on_trial_s is None:
            return
        trial_s = max(_TRIAL_WINDOWS, 2 * self._patience) * window_s
        if now_s - self._on_trial_s >= trial_s:
            self._patience = max(1, self._patience // 2)
            self._on_trial_s = None
        elif more:
            self._patience = min(_MOST_PATIENCE, 2 * self._patience)
            self._on_trial_s = None

    def _recent(self, at_least: int, window_s: float, now_s: float) -> int:
        """The most that were needed within the window."""
        while self._needed and (
            self._needed[0][0] <= now_s - window_s or self._needed[0][1] <= at_least
        ):
            self._needed.popleft()
        while self._needed and self._needed[-1][1] <= at_least:
            self._needed.pop()
        self._needed.append((now_s, at_least))
        return self._needed[0][1]

    def _kept_by(
        self, observed: Observed, need: Need, recently: int, window_s: float, now_s: float
    ) -> Bound | None:
        """What keeps the number of replicas from being one less; None: nothing."""
        fewer = observed.replicas - 1
        if fewer < self._config.min_replicas:
            return "min_replicas"
        assert self._began_s is not None
        if math.isinf(need.high) or now_s - self._began_s < _LEARNING_WINDOWS * window_s:
            return "history"
        if need.at_most > fewer:
            return "noise"
        if recently > fewer:
            return "recent_need"
        if fewer < observed.least_for_running:
            return "running_streams"
        assert self._busy_s is not None
        if fewer == 0 and now_s - self._busy_s < max(self._config.idle_s, window_s):
            return "idle_time"
        # Nor before what the last one changed can be seen.
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

"""Other services' scaling policies. Both compare the requests in flight, which wait or run, with a
fixed target per replica."""

from collections import deque
from math import ceil, floor
from typing import Any

from ray.serve.autoscaling_policy import _apply_delay_logic, _apply_scaling_factors
from ray.serve.config import AutoscalingConfig

from serving.scaling import Decision, Observed


class RayDefault:
    """Ray Serve 2.60's, by its own functions and with its own defaults: the mean of the last 30 s,
    up after 30 s, down after 600 s, factors of 1. It samples every moment, where Serve's gets
    a sample every 10 s.
    """

    def __init__(self, target: float, max_replicas: int) -> None:
        self._target = target
        self._config = AutoscalingConfig(
            target_ongoing_requests=target, min_replicas=1, max_replicas=max_replicas
        )
        self._ongoing = _Means()
        self._state: dict[str, Any] = {}

    def decide(self, observed: Observed, now_s: float) -> Decision:
        self._ongoing.add(observed.running_requests + observed.waiting_requests, now_s)
        ongoing = self._ongoing.of_last(self._config.look_back_period_s)
        # like `_core_replica_queue_length_policy`, `_apply_default_params` and Serve's bounds
        scaled = _apply_scaling_factors(ongoing / self._target, observed.up, self._config)
        least, most = self._config.min_replicas, self._config.max_replicas
        assert least is not None
        replicas, self._state = _apply_delay_logic(
            min(max(scaled, least), most), observed.replicas, self._config, self._state, now_s
        )
        return Decision(replicas, "requests", ongoing, self._target)


class Kpa:
    """Knative's, as in AIBrix (pkg/controller/podautoscaler/algorithm/kpa.go and the defaults of
    its context.go): the mean of 180 s; once that of 60 s asks for twice what is up, the higher of
    the two and never less, until 180 s after it last did. Up to twice what is up, down to half;
    down only to the most that was asked for in 300 s.
    """

    _STABLE_S = 180.0
    _PANIC_S = 60.0
    _PANIC_THRESHOLD = 2.0
    _RATE = 2.0
    _COOL_DOWN_S = 300.0

    def __init__(self, target: float, max_replicas: int) -> None:
        self._target = target
        self._max_replicas = max_replicas
        self._ongoing = _Means()
        self._panic_s: float | None = None
        self._panic_replicas = 0
        self._asked: deque[tuple[float, int]] = deque()

    def decide(self, observed: Observed, now_s: float) -> Decision:
        self._ongoing.add(observed.running_requests + observed.waiting_requests, now_s)
        stable = self._ongoing.of_last(self._STABLE_S)
        panic = ceil(self._ongoing.of_last(self._PANIC_S) / self._target)
        most, least = max(1, ceil(self._RATE * observed.up)), floor(observed.up / self._RATE)
        replicas = min(max(ceil(stable / self._target), least), most)
        if panic / max(1, observed.up) >= self._PANIC_THRESHOLD:
            self._panic_s = now_s
        if self._panic_s is not None and now_s - self._panic_s < self._STABLE_S:
            bounded = min(max(panic, least), most)
            self._panic_replicas = max(self._panic_replicas, replicas, bounded)
            replicas = self._panic_replicas
        else:
            self._panic_replicas = 0
        self._asked.append((now_s, replicas))
        while self._asked[0][0] <= now_s - self._COOL_DOWN_S:
            self._asked.popleft()
        if replicas < observed.replicas:
            replicas = min(observed.replicas, max(count for _, count in self._asked))
        replicas = min(max(replicas, 1), self._max_replicas)
        return Decision(replicas, "requests", stable, self._target)


class _Means:
    """The mean of a value over the last seconds, from samples every few seconds."""

    _LONGEST_S = 180.0

    def __init__(self) -> None:
        self._told: deque[tuple[float, float]] = deque()

    def add(self, value: float, now_s: float) -> None:
        self._told.append((now_s, value))
        while self._told[0][0] <= now_s - self._LONGEST_S:
            self._told.popleft()

    def of_last(self, seconds: float) -> float:
        since_s = self._told[-1][0] - seconds
        values = [value for at_s, value in self._told if at_s > since_s]
        return sum(values) / len(values)

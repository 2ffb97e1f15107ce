"""A simplified fleet in simulated time: work is done at once if replicas have the time, and waits
if not. Requests hold their KV tokens for a fixed time."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.scaling import Decision, Observed, Scaler

PREFILL_TOKENS_PER_S = 10_000.0
KV_CACHE_TOKENS = 100_000.0
MAX_NUM_SEQS = 200.0
PROMPT_TOKENS = 1_000.0
RESIDENCE_TIME_S = 10.0

Load = Callable[[float], float]
"""Requests per second at a time."""


def observed(replicas: int = 1, **values: float) -> Observed:
    """An idle fleet, except for the given values."""
    return Observed(
        **{
            "up": replicas,
            "offered_prefill_tokens_per_s": 0.0,
            "prefill_tokens_per_s": PREFILL_TOKENS_PER_S,
            "running_kv_tokens": 0.0,
            "waiting_kv_tokens": 0.0,
            "kv_cache_tokens": KV_CACHE_TOKENS,
            "running_requests": 0.0,
            "waiting_requests": 0.0,
            "max_num_seqs": MAX_NUM_SEQS,
            "waiting_prefill_tokens": 0.0,
            "residence_time_s": RESIDENCE_TIME_S,
            "startup_s": 60.0,
            **values,
        }  # type: ignore[arg-type]
    )


def poisson(rng: random.Random, mean: float) -> int:
    count, left_s = 0, rng.expovariate(1.0)
    while left_s < mean:
        count += 1
        left_s += rng.expovariate(1.0)
    return count


@dataclass
class Fleet:
    scaler: Scaler
    replicas: int
    startup_s: float = 60.0
    drain_s: float = RESIDENCE_TIME_S
    period_s: float = 2.0
    rng: random.Random | None = None
    """Without a random source, requests arrive evenly."""
    now_s: float = 0.0
    seen: list[Observed] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._up = self.replicas
        self._starting: deque[float] = deque()
        self._draining: deque[float] = deque()
        self._backlog_tokens = 0.0
        self._came: deque[float] = deque()

    @property
    def counts(self) -> list[int]:
        return [decision.replicas for decision in self.decisions]

    @property
    def turns(self) -> int:
        """Number of times that the fleet grew after it had shrunk."""
        turns, before, shrunk = 0, self.replicas, False
        for count in self.counts:
            turns += shrunk and count > before
            shrunk = count < before or (shrunk and count == before)
            before = count
        return turns

    def run(self, load: Load, duration_s: float) -> None:
        end_s = self.now_s + duration_s
        while self.now_s < end_s:
            self.step(load(self.now_s))

    def step(self, requests_per_s: float) -> Decision:
        self.now_s += self.period_s
        while self._starting and self._starting[0] <= self.now_s:
            self._starting.popleft()
            self._up += 1
        while self._draining and self._draining[0] <= self.now_s:
            self._draining.popleft()
        mean = requests_per_s * self.period_s
        requests = mean if self.rng is None else float(poisson(self.rng, mean))
        offered = requests * PROMPT_TOKENS
        self._backlog_tokens += offered
        capacity = self._up * PREFILL_TOKENS_PER_S * self.period_s
        done = min(self._backlog_tokens, capacity)
        self._backlog_tokens -= done
        self._came.append(done / PROMPT_TOKENS)
        if len(self._came) > RESIDENCE_TIME_S / self.period_s:
            self._came.popleft()
        running = sum(self._came)
        waiting = self._backlog_tokens / PROMPT_TOKENS
        each_kv_tokens = PROMPT_TOKENS * 1.2
        seen = observed(
            self._up,
            starting=len(self._starting),
            draining=len(self._draining),
            offered_prefill_tokens_per_s=offered / self.period_s,
            running_kv_tokens=running * each_kv_tokens,
            waiting_kv_tokens=waiting * each_kv_tokens,
            running_requests=running,
            waiting_requests=waiting,
            waiting_prefill_tokens=self._backlog_tokens,
            startup_s=self.startup_s,
        )
        decision = self.scaler.decide(seen, self.now_s)
        self.seen.append(seen)
        self.decisions.append(decision)
        self._apply(decision.replicas)
        return decision

    def _apply(self, replicas: int) -> None:
        for _ in range(replicas - self._up - len(self._starting)):
            self._starting.append(self.now_s + self.startup_s)
        for _ in range(self._up + len(self._starting) - replicas):
            if self._starting:
                self._starting.pop()
            else:
                self._up -= 1
                self._draining.append(self.now_s + self.drain_s)

"""Background work, which no one waits for: it takes what interactive requests leave free."""

import math
from collections.abc import Sequence

from serving.dispatch.headroom import Headroom
from serving.dispatch.reservation import Reservation
from serving.placement import UNLIMITED, ReplicaLoad

_MEMORY_S = 120.0
_DEVIATIONS = 3.0
_LEAST_RESERVE = 0.05
_LEAST_WAIT_MS = 10.0


class Background:
    def __init__(self, headroom: Headroom) -> None:
        self.waiting: dict[Reservation, None] = {}
        self.due_s: float | None = None
        self._headroom = headroom
        self._booked = 0.0
        self._mean = self._variance = 0.0
        self._now_s = -math.inf

    def next(self, now_s: float) -> tuple[Reservation, Sequence[ReplicaLoad]] | None:
        self.due_s = None
        if not self.waiting:
            return None
        reservation = next(iter(self.waiting))
        self._observe(now_s)
        reserve = self._reserve()
        free = self._headroom.tokens(now_s)
        found, soonest_ms = [], math.inf
        for load, tokens in zip(self._headroom.replicas, free, strict=True):
            if not self._fits(load, tokens, reservation.kv_tokens, reserve):
                continue
            if prefill_ms := load.prefill_ms(now_s):
                soonest_ms = min(soonest_ms, prefill_ms)
            else:
                found.append(load)
        if found:
            return reservation, found
        if soonest_ms < math.inf:
            self.due_s = now_s + max(soonest_ms, _LEAST_WAIT_MS) / 1000
        return None

    def _fits(self, load: ReplicaLoad, tokens: int, kv_tokens: int, reserve: float) -> bool:
        if not load.requests:
            return True
        capacity = load.capacity
        if capacity == UNLIMITED:
            return False
        return (
            tokens >= kv_tokens + reserve * capacity.kv_cache_tokens
            and load.requests + 1 <= capacity.max_num_seqs * (1 - reserve)
        )

    def book(self, reservation: Reservation) -> None:
        del self.waiting[reservation]
        self._booked += reservation.share

    def release(self, reservation: Reservation) -> None:
        self._booked -= reservation.share

    def _observe(self, now_s: float) -> None:
        interactive = max(self._headroom.used - self._booked, 0.0)
        kept = math.exp((self._now_s - now_s) / _MEMORY_S)
        self._now_s = now_s
        error = interactive - self._mean
        self._mean += (1 - kept) * error
        self._variance = kept * (self._variance + (1 - kept) * error * error)
        self._interactive = interactive

    def _reserve(self) -> float:
        level = self._mean + _DEVIATIONS * math.sqrt(self._variance)
        return max(
            (level - self._interactive) / max(len(self._headroom.replicas), 1), _LEAST_RESERVE
        )

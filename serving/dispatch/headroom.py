"""How much more work the replicas can take."""

import math
from collections.abc import Sequence

from serving.placement import UNLIMITED, Capacity, ReplicaLoad

_SHARED_PREFILL_MS = 1000.0
"""More than what an engine reads until the queue is looked at again."""
_ANY_TOKENS = UNLIMITED.kv_cache_tokens


class Headroom:
    """The replicas that take requests, and the bounds up to which they are filled.

    A replica is filled up to its KV cache, its batch, and the context that it decodes with at most
    `max_itl_ms` between tokens. While `is_shared`, as several tenants want the replicas, it gets
    no more than a second of prefill, as engines read prompts in the order of arrival: what waits
    here instead is served by the tenants' shares. An idle replica takes any request: the engine
    knows best whether it fits.
    """

    def __init__(
        self, capacity: Capacity, max_itl_ms: float = math.inf, is_bounded: bool = True
    ) -> None:
        """`capacity` is that of a replica before one is up. If the headroom is not bounded, all
        requests fit and queue in the engines."""
        self.replicas: Sequence[ReplicaLoad] = []
        self.capacity = capacity
        self.is_shared = False
        self._max_itl_ms = max_itl_ms
        self._is_bounded = is_bounded

    def update(self, replicas: Sequence[ReplicaLoad]) -> None:
        self.replicas = replicas
        if replicas:
            self.capacity = replicas[0].capacity

    def tokens(self, now_s: float) -> list[int]:
        """Returns, per replica, the KV tokens of the largest request that fits now, or -1."""
        if not self._is_bounded:
            return [_ANY_TOKENS] * len(self.replicas)
        max_itl_ms, is_shared = self._max_itl_ms, self.is_shared
        found = []
        for load in self.replicas:  # Inlined: there are dozens of them at each request.
            requests, capacity = load.requests, load.capacity
            if requests >= capacity.max_num_seqs or (
                is_shared and requests and load.prefill_ms(now_s) > _SHARED_PREFILL_MS
            ):
                found.append(-1)
            elif requests:
                tokens = capacity.kv_cache_tokens - load.kv_tokens
                if max_itl_ms < math.inf:
                    in_time = load.context_headroom_tokens(max_itl_ms, now_s)
                    if in_time < tokens:
                        tokens = int(in_time)
                found.append(tokens)
            else:
                found.append(_ANY_TOKENS)
        return found

    def has(self, tokens: float, now_s: float) -> bool:
        """Whether a replica has headroom for that many KV tokens, by the rule of `tokens`."""
        if not self._is_bounded:
            return bool(self.replicas)
        max_itl_ms = self._max_itl_ms
        for load in self.replicas:
            requests, capacity = load.requests, load.capacity
            if requests >= capacity.max_num_seqs:
                continue
            if not requests:
                return True
            if self.is_shared and load.prefill_ms(now_s) > _SHARED_PREFILL_MS:
                continue
            if capacity.kv_cache_tokens - load.kv_tokens >= tokens and (
                max_itl_ms == math.inf or load.context_headroom_tokens(max_itl_ms, now_s) >= tokens
            ):
                return True
        return False

    @property
    def interactive(self) -> float:
        """How much of the replicas interactive requests hold, in replicas: of their KV cache, their
        batch, or the context that they decode within `max_itl_ms`."""
        parts = 0.0
        for load in self.replicas:
            requests, kv_tokens = load.interactive
            part = load.capacity.share_of(requests, kv_tokens)
            if kv_tokens and self._max_itl_ms < math.inf:
                most_tokens = max(load.rates.context_tokens(self._max_itl_ms), 1.0)
                part = max(part, kv_tokens / most_tokens)
            parts += min(part, 1.0)
        return parts

    @property
    def used(self) -> float:
        """How much of the replicas is booked, in replicas."""
        return sum(load.utilization for load in self.replicas)

"""Background work, which no one waits for: it takes what interactive requests leave free."""

import math
from collections.abc import Sequence, Set

from serving.dispatch.adapter_slots import AdapterSlots
from serving.dispatch.headroom import Headroom
from serving.dispatch.reservation import Reservation
from serving.placement import UNLIMITED, ReplicaLoad

_MEMORY_S = 120.0
"""Time constant with which the past of interactive requests is forgotten."""
_DEVIATIONS = 3.0
"""A normally distributed load is above its mean by more than this once in 740 times."""
_LEAST_RESERVE = 0.25
"""Part of a replica that is always kept free where no replica is without background work: the most
with which batches still get what the load leaves, by `tests.bench.batches`."""
_SPREAD = 5 / 8
"""Part of the replicas without background work while there is an interactive load."""
_SPREAD_OF_LOAD = 7.0
"""Replicas without background work for each that the interactive load fills, where that is more. By
`tests.bench.batches` the slowest first tokens come 1 to 2 % later with 5 of 8 replicas beside a low
load, and 10 % with 4; half of all replicas is too little for a third of the fleet's load."""
_NEXT_TO_NONE = 0.01
"""An interactive load, in replicas, for which no replica is kept without background work."""
_LOOK_AGAIN_MS = 10.0
"""The shortest time after which is looked again whether a prompt has been read."""


class Background:
    """The queue of background work, in order of arrival, and the rule for what of it is placed.

    It is outside the request queue, so that no interactive request waits behind it or is refused
    for it. An interactive prompt that comes to a replica while it reads one of a batch waits for
    that, which no reserve of memory prevents. So background work has replicas of its own, three
    of eight at most, and placement sends interactive requests there only if that costs them less. A
    part of it is placed on one of them only if:

    - no interactive request waits;
    - a reserve is left: up to the load of interactive requests that is to be expected, which is its
      mean and three standard deviations, whatever of it is there now;
    - the replica has read all prompts that it was sent;
    - the replica is idle, if its capacity is not known.
    """

    def __init__(self, headroom: Headroom, slots: AdapterSlots) -> None:
        self.waiting: dict[Reservation, None] = {}
        """An ordered set."""
        self.due_s = math.inf
        """When the next may be placed though nothing else happens until then."""
        self._headroom = headroom
        self._slots = slots
        self._interactive = self._mean = self._variance = 0.0
        self._observed_s = -math.inf

    def next(self, now_s: float) -> tuple[Reservation, Sequence[ReplicaLoad]] | None:
        """Returns the first that waits and the replicas that may take it, one of which the caller
        must book before the next call. None: there is no room, or none waits."""
        self.due_s = math.inf
        if not self.waiting:
            return None
        replicas = self._headroom.replicas
        reservation = next(
            (
                one
                for one in self.waiting
                if self._slots.open_to(one.request.work.adapter, replicas)
            ),
            None,
        )
        if reservation is None:
            return None
        self._observe(now_s)
        own, reserve = self._own(reservation.request.work.adapter)
        takes: list[ReplicaLoad] = []
        soonest_ms = math.inf
        free = self._headroom.tokens(now_s)
        free = self._slots.masked(free, reservation.request.work.adapter, replicas)
        for load, tokens in zip(replicas, free, strict=True):
            if load in own and _has_room(load, tokens, reservation.kv_tokens, reserve):
                prefill_ms = load.prefill_ms(now_s)
                if prefill_ms > 0:
                    soonest_ms = min(soonest_ms, prefill_ms)
                else:
                    takes.append(load)
        if takes:
            return reservation, takes
        if soonest_ms < math.inf:
            self.due_s = now_s + max(soonest_ms, _LOOK_AGAIN_MS) / 1000
        return None

    def _observe(self, now_s: float) -> None:
        """Takes the interactive load, in replicas, into its mean and variance, which are weighted
        by time."""
        self._interactive = self._headroom.interactive
        kept = math.exp((self._observed_s - now_s) / _MEMORY_S)
        self._observed_s = now_s
        error = self._interactive - self._mean
        self._mean += (1 - kept) * error
        self._variance = kept * (self._variance + (1 - kept) * error * error)

    def _own(self, adapter: str) -> tuple[Set[ReplicaLoad], float]:
        """Returns the replicas for background work of an adapter, and the part of each to keep
        free: those that have most of it already and, of the others, least interactive work."""
        replicas = self._headroom.replicas
        expected = self._mean + _DEVIATIONS * math.sqrt(self._variance)
        spread = 0.0
        if expected > _NEXT_TO_NONE:
            spread = max(len(replicas) * _SPREAD, expected * _SPREAD_OF_LOAD)
        count = max(len(replicas) - math.ceil(spread), 1)
        reserve = max(0.0, expected - self._interactive) / len(replicas)
        if count == len(replicas) or spread > len(replicas) - 1:
            reserve = max(reserve, _LEAST_RESERVE)
        candidates = self._slots.open_to(adapter, replicas)
        in_order = sorted(candidates, key=lambda one: (-one.background_requests, one.interactive))
        return set(in_order[:count]), reserve


def _has_room(load: ReplicaLoad, tokens: int, kv_tokens: int, reserve: float) -> bool:
    """Whether a replica with headroom for `tokens` has room for `kv_tokens` beside the reserve. An
    idle one has room for anything, as for interactive requests."""
    if tokens < 0:
        return False
    if not load.requests:
        return True
    capacity = load.capacity
    if capacity == UNLIMITED:
        return False
    return (
        tokens >= kv_tokens + reserve * capacity.kv_cache_tokens
        and load.requests < capacity.max_num_seqs * (1 - reserve)
    )

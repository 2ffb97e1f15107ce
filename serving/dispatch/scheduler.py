"""Decides which request is placed next, and on which replicas it may be."""

import math
from collections.abc import Callable, Sequence

from serving.dispatch.adapter_slots import AdapterSlots
from serving.dispatch.headroom import Headroom
from serving.dispatch.request_queue import RequestQueue
from serving.dispatch.reservation import Reservation
from serving.dispatch.router_sync import RouterSync
from serving.placement import ReplicaLoad, Work

_HEAD = 64
"""How many of the first requests in the queue are examined for one whose replica has headroom."""
_BYPASS = 0.5
"""How much smaller requests may bypass the first of the queue, as a part of its own KV tokens,
before a replica is held for it. At most half of the replicas are held so."""
_PATIENCE = 0.5
"""Part of its longest wait that a request waits for its replica while nearly all have headroom."""
_FEW_FULL = 1 / 8
"""Part of the replicas. By simulation of 8: with a quarter, an overloaded fleet recomputes more
prompts and serves up to 4 % less."""

Choose = Callable[[Work, Sequence[ReplicaLoad], float], ReplicaLoad]


class Scheduler:
    """Picks requests from the queue, and removes only those that it holds a replica for."""

    def __init__(
        self,
        queue: RequestQueue,
        headroom: Headroom,
        slots: AdapterSlots,
        sync: RouterSync,
        choose: Choose | None,
    ) -> None:
        """`choose` returns the replica that placement prefers for a request, with or without
        headroom. None: any replica with headroom will do."""
        self._queue = queue
        self._headroom = headroom
        self._slots = slots
        self._positions: dict[ReplicaLoad, int] = {}
        self._sync = sync
        self._choose = choose
        self.due_s = math.inf
        """When a request stops waiting for a replica that has its adapter."""

    def update(self) -> None:
        """Adapts to a change of the replicas of the headroom."""
        self._positions = {load: at for at, load in enumerate(self._headroom.replicas)}
        for reservation, held in list(self._queue.held.items()):
            if held not in self._positions:
                self._queue.put_back(reservation)

    def next(self, now_s: float) -> tuple[Reservation, Sequence[ReplicaLoad]] | None:
        """Returns the next reservation and the replicas with headroom for it, one of which the
        caller must book before the next call. None: there is no headroom, or none waits."""
        self.due_s = math.inf
        queue, replicas = self._queue, self._headroom.replicas
        if not queue.waiting or not replicas:
            return None
        free = self._headroom.tokens(now_s)
        for reservation, held in queue.held.items():
            at = self._positions[held]
            is_open = self._slots.is_open(held, reservation.request.work.adapter)
            if is_open and free[at] >= reservation.kv_tokens:
                return reservation, [held]
            free[at] = -1
        freest = max(free)
        queue.blocked = self._slots.blocked(queue.adapters, replicas)
        while (first := queue.first()) is not None:
            if self._sync.is_beyond_quota(first):
                return None
            if freest >= first.kv_tokens:
                return self._next_at_head(free, now_s)
            overtaken = first.overtaken_tokens >= first.kv_tokens * _BYPASS
            if not overtaken or len(queue.held) * 2 >= len(replicas):
                break
            open_to_it = self._slots.masked(free, first.request.work.adapter, replicas)
            if first.request.work.adapter and max(open_to_it) < 0:
                break
            at = open_to_it.index(max(open_to_it))
            if self._choose is not None and not first.request.work.adapter:
                at = self._positions[self._prefer(first, now_s)]
            queue.hold(first, replicas[at])
            free[at] = -1
            freest = max(free)
        if first is None or (smaller := queue.first_within(freest)) is None:
            return None
        candidates = self._candidates(smaller, free, False, now_s)
        if not candidates:
            return None
        first.overtaken_tokens += smaller.kv_tokens
        return smaller, candidates

    def at_once(self, reservation: Reservation, now_s: float) -> Sequence[ReplicaLoad]:
        """Returns the replicas that `next` would return for a reservation if it was in the queue,
        provided that nothing is and all have headroom for it; else none."""
        queue, replicas = self._queue, self._headroom.replicas
        if not queue.is_idle or not replicas or reservation.request.work.adapter:
            return ()
        if min(self._headroom.tokens(now_s)) < reservation.kv_tokens:
            return ()
        return () if self._sync.is_beyond_quota(reservation) else replicas

    def _next_at_head(
        self, free: list[int], now_s: float
    ) -> tuple[Reservation, Sequence[ReplicaLoad]] | None:
        """Returns the first reservation at the head of the queue that a replica has headroom for,
        and all such replicas."""
        least = min(free)
        for place, reservation in enumerate(self._queue.head(_HEAD)):
            replicas = self._headroom.replicas
            if reservation.request.work.adapter or least < reservation.kv_tokens:
                replicas = self._candidates(reservation, free, place == 0, now_s)
            if replicas and not self._sync.is_beyond_quota(reservation):
                return reservation, replicas
        return None

    def _candidates(
        self, reservation: Reservation, free: list[int], anew: bool, now_s: float
    ) -> Sequence[ReplicaLoad]:
        """Returns the replicas that a request may go to while some have no headroom for it."""
        if reservation.request.work.adapter:
            return self._with_adapter(reservation, self._with_headroom(reservation, free), now_s)
        if self._goes_anywhere(reservation, free, now_s):
            return self._with_headroom(reservation, free)
        return self._preferred(reservation, free, anew, now_s)

    def _preferred(
        self, reservation: Reservation, free: list[int], anew: bool, now_s: float
    ) -> Sequence[ReplicaLoad]:
        """Returns the replica that would be chosen if all had headroom, if it has headroom.
        Headroom alone is a bad guide: it is seldom where the prompt is cached, and each recomputed
        prompt slows down all that decode there. So a waiting request waits for that replica and
        lets others pass; in a full fleet until it expires, as more requests are served that way.
        Placement is asked `anew` for the first of the queue, and when the replica has headroom."""
        preferred = reservation.preferred
        at = None if preferred is None else self._positions.get(preferred)
        if at is None or anew or free[at] >= reservation.kv_tokens:
            preferred = reservation.preferred = self._prefer(reservation, now_s)
            at = self._positions[preferred]
        return [self._headroom.replicas[at]] if free[at] >= reservation.kv_tokens else []

    def _with_adapter(
        self, reservation: Reservation, candidates: Sequence[ReplicaLoad], now_s: float
    ) -> Sequence[ReplicaLoad]:
        """Returns no candidates while a replica that has the adapter may have headroom or a slot
        for it before another one could load it."""
        adapter = reservation.request.work.adapter
        if not candidates or any(load.has_adapter(adapter) for load in candidates):
            return candidates
        until_s = reservation.arrived_at_s + candidates[0].adapter_load_ms / 1000
        if now_s >= until_s or not any(
            load.has_adapter(adapter) for load in self._headroom.replicas
        ):
            return candidates
        self.due_s = min(self.due_s, until_s)
        return []

    def _goes_anywhere(self, reservation: Reservation, free: list[int], now_s: float) -> bool:
        """Whether any replica will do: it has waited long for its own while hardly any other is
        full, or placement prefers none."""
        if self._choose is None:
            return True
        longest_s = reservation.expires_at_s - reservation.arrived_at_s
        if now_s - reservation.arrived_at_s < longest_s * _PATIENCE:
            return False
        full = sum(tokens < reservation.kv_tokens for tokens in free)
        return full <= len(free) * _FEW_FULL

    def _prefer(self, reservation: Reservation, now_s: float) -> ReplicaLoad:
        """Asks placement for a choice among all replicas. One that is held for another request may
        be worth the wait: to leave it would cost a session its cached context."""
        assert self._choose is not None
        return self._choose(reservation.request.work, self._headroom.replicas, now_s)

    def _with_headroom(self, reservation: Reservation, free: list[int]) -> Sequence[ReplicaLoad]:
        replicas, kv_tokens = self._headroom.replicas, reservation.kv_tokens
        free = self._slots.masked(free, reservation.request.work.adapter, replicas)
        if min(free) >= kv_tokens:
            return replicas
        return [load for load, tokens in zip(replicas, free, strict=True) if tokens >= kv_tokens]

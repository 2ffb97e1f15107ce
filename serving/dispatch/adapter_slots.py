"""Which adapters may run on which replicas, of which each has slots for a few at a time."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from serving.dispatch.messages import Turns
from serving.dispatch.reservation import Reservation
from serving.placement import ReplicaLoad

_TURN_S = 1.0
"""How long an adapter that runs nowhere waits for a slot to become free by itself, before another
one yields to it."""
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Turn:
    """A slot that an adapter gets when the one that has it is done."""

    replica_id: str
    yields: str
    adapter: str
    """The one that gets it."""


class AdapterSlots:
    """A replica runs at most `max_loras` distinct adapters, as an engine that is given more lets
    the requests of one wait for whole answers of the others, where they can no longer go elsewhere.

    A slot is free once no request of its adapter is left. So that busy adapters do not keep theirs
    for ever, one that has waited for `_TURN_S` gets a turn: the adapter with the fewest requests on
    a replica gets no further ones there, at any router, until the other one has its slot. It waits
    no longer than that and what the answers that have begun take, and not beyond the longest wait
    of the queue. Where routers have given turns of the same slot at the same time, the first of the
    adapters by name gets it.
    """

    def __init__(self, max_loras: int) -> None:
        """With 0 there are no adapters."""
        self.due_s = math.inf
        """When an adapter may get a turn though nothing else happens until then."""
        self._max_loras = max_loras
        self._turns: dict[str, _Turn] = {}
        self._others_turns: dict[str, list[_Turn]] = {}

    def is_open(self, load: ReplicaLoad, adapter: str) -> bool:
        """Whether a replica may take a further request of the adapter; "" is the model itself."""
        if not adapter:
            return True
        running, turns = load.running_adapters, self._turns_at(load)
        if adapter in running:
            return not any(turn.yields == adapter for turn in turns)
        own = self._turns.get(adapter)
        promised = {
            turn.adapter
            for turn in turns
            if turn.adapter != adapter and not (own is not None and _is_before(own, turn))
        }
        return len(running) + len(promised) < self._max_loras

    def _turns_at(self, load: ReplicaLoad) -> list[_Turn]:
        """Returns the turns at a replica that adapters still wait for, of all routers."""
        given = [*self._turns.values()]
        for turns in self._others_turns.values():
            given += turns
        return [
            turn
            for turn in given
            if turn.replica_id == load.replica_id and turn.adapter not in load.running_adapters
        ]

    def open_to(self, adapter: str, replicas: Sequence[ReplicaLoad]) -> Sequence[ReplicaLoad]:
        """Returns those of the replicas that may take a further request of the adapter."""
        if not adapter:
            return replicas
        return [load for load in replicas if self.is_open(load, adapter)]

    def masked(self, free: list[int], adapter: str, replicas: Sequence[ReplicaLoad]) -> list[int]:
        """Returns the headroom of the replicas as a request of the adapter sees it."""
        if not adapter:
            return free
        return [
            tokens if self.is_open(load, adapter) else -1
            for load, tokens in zip(replicas, free, strict=True)
        ]

    def blocked(self, adapters: Iterable[str], replicas: Sequence[ReplicaLoad]) -> Collection[str]:
        """Returns those of the adapters that no replica may take a request of."""
        if not self._max_loras:
            return _NONE
        return {
            adapter
            for adapter in adapters
            if not any(self.is_open(load, adapter) for load in replicas)
        }

    def give_turns(
        self, firsts: Sequence[Reservation], replicas: Sequence[ReplicaLoad], now_s: float
    ) -> bool:
        """Has adapters yield to those that wait. `firsts` are the first reservations of each
        adapter in the queue, in its order. Returns whether the turns have changed."""
        self.due_s = math.inf
        before = self._turns
        waiting = {reservation.request.work.adapter for reservation in firsts}
        loads = {load.replica_id: load for load in replicas}
        self._turns = {
            adapter: turn
            for adapter, turn in before.items()
            if adapter in waiting
            and (load := loads.get(turn.replica_id)) is not None
            # Else it has its slot, or the other one was faster to come back than it to take it.
            and adapter not in load.running_adapters
            # Else another one was faster than it.
            and (turn.yields in load.running_adapters or self.is_open(load, adapter))
        }
        for reservation in firsts:
            adapter = reservation.request.work.adapter
            if not adapter or adapter in self._turns:
                continue
            if any(self.is_open(load, adapter) for load in replicas):
                continue
            due_s = reservation.arrived_at_s + _TURN_S
            if due_s > now_s:
                self.due_s = min(self.due_s, due_s)
            elif (turn := self._turn(adapter, replicas)) is not None:
                self._turns[adapter] = turn
        return self._turns != before

    def _turn(self, adapter: str, replicas: Sequence[ReplicaLoad]) -> _Turn | None:
        """Returns the slot that is done soonest, of those that are promised to no one."""
        slots: list[tuple[int, _Turn]] = []
        for load in replicas:
            promised = {turn.yields for turn in self._turns_at(load)}
            slots += [
                (requests, _Turn(load.replica_id, running, adapter))
                for running, requests in load.running_adapters.items()
                if running not in promised
            ]
        return min(slots, key=lambda slot: slot[0])[1] if slots else None

    # Other routers

    def turns(self) -> Turns:
        """Returns the message with this router's turns."""
        return Turns([(one.replica_id, one.yields, one.adapter) for one in self._turns.values()])

    def receive(self, router_id: str, message: Turns) -> None:
        self._others_turns[router_id] = [_Turn(*turn) for turn in message.turns]

    def forget(self, router_id: str) -> None:
        self._others_turns.pop(router_id, None)


def _is_before(own: _Turn, other: _Turn) -> bool:
    """Whether a turn comes before another one of the same slot."""
    is_same = (own.replica_id, own.yields) == (other.replica_id, other.yields)
    return is_same and own.adapter < other.adapter

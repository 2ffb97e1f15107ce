"""The replicas of a model as one router knows them."""

import itertools
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from serving.placement.events import Ended, Event, FirstToken, Placed
from serving.placement.load import Booking, ReplicaLoad
from serving.placement.load_table import Loads, LoadTable
from serving.placement.policies import Policy
from serving.placement.prefix import Prefix
from serving.placement.prefix_index import PrefixIndex
from serving.placement.rates import Rates
from serving.placement.work import Work

OWN = ""
"""The source of a router's own events."""


@dataclass(slots=True)
class _Unfinished:
    placed: Placed
    booking: Booking
    prefix: Prefix


class Fleet:
    """Ledger, index and policy of one model. Only events change the former two: a router applies
    its own and those of others, in the order of each, and so they all know the same.
    """

    def __init__(self, policy: Policy, first_rates: Callable[[], Rates] = Rates) -> None:
        self.policy = policy
        self.loads: dict[str, ReplicaLoad] = {}
        """By replica id."""
        self._first_rates = first_rates
        self._index = PrefixIndex()
        self._slots: dict[str, int] = {}
        self._table = LoadTable()
        self._candidates: list[str] = []
        self._candidate_slots: list[int] = []
        self._candidate_loads = Loads([], self._table, [])
        """Of the last decision: mostly all replicas, again and again."""
        self._unfinished: dict[str, dict[int, _Unfinished]] = {}
        self._requests = itertools.count(1)

    def add(self, replica_id: str, kv_capacity_tokens: int, max_sequences: int) -> None:
        """A replica is up, with nothing cached."""
        self.loads[replica_id] = ReplicaLoad(
            replica_id, kv_capacity_tokens, max_sequences, self._first_rates()
        )
        self._slots[replica_id] = slot = self._index.add_replica(kv_capacity_tokens)
        self._table.note(slot, self.loads[replica_id])
        self._candidates = []

    def remove(self, replica_id: str) -> None:
        """It is gone. Events of requests that it had may still come."""
        del self.loads[replica_id]
        slot = self._slots.pop(replica_id)
        self._index.remove_replica(slot)
        self._table.forget(slot)
        self._candidates = []

    def decide(self, work: Work, replica_ids: Iterable[str], now_s: float) -> Placed:
        """Which of these replicas to send a request to. It is booked by applying the event.
        Raises ValueError if there is none to choose from."""
        candidates = list(replica_ids)
        chosen, cached_tokens = self._choose(work, candidates, now_s)
        return Placed(
            next(self._requests),
            candidates[chosen],
            work.prefix.hashes,
            work.prefix.ends_tokens,
            work.prefix.answer,
            work.prompt_tokens,
            work.output_tokens,
            cached_tokens,
            work.streamed,
        )

    def choose(self, work: Work, replica_ids: Iterable[str], now_s: float) -> int:
        """The index of the one of these replicas that a request would be sent to, as `decide`."""
        return self._choose(work, list(replica_ids), now_s)[0]

    def cached_tokens(self, prefix: Prefix, replica_ids: Iterable[str]) -> list[int]:
        """Of this prompt, on each of these replicas."""
        cached_by_slot = self._index.cached_tokens(prefix)
        return [cached_by_slot[self._slots[replica_id]] for replica_id in replica_ids]

    def leaving(self) -> int:
        """Replicas that are gone, but for the requests that they finish."""
        with_requests = {
            one.placed.replica_id
            for unfinished in self._unfinished.values()
            for one in unfinished.values()
        }
        return len(with_requests - self.loads.keys())

    def apply(self, event: Event, now_s: float, source: str = OWN) -> None:
        """An event of this router or of the one named `source`. One of a replica or a request that
        is not known is ignored: it came before this router did, or the replica has gone."""
        if isinstance(event, Placed):
            self._place(event, now_s, source)
        elif isinstance(event, FirstToken):
            unfinished = self._unfinished.get(source, {}).get(event.request)
            if unfinished is not None:
                unfinished.booking.first_token(now_s)
                self._note(unfinished.placed.replica_id, unfinished.booking)
        else:
            self._end(event, now_s, source)

    def unfinished(self) -> list[Event]:
        """The events by which another router comes to know this one's requests."""
        events: list[Event] = []
        for request, one in self._unfinished.get(OWN, {}).items():
            events.append(one.placed)
            if one.booking.has_first_token:
                events.append(FirstToken(request))
        return events

    def forget(self, source: str, now_s: float) -> None:
        """The router of that name is gone, and its requests with it."""
        for request in list(self._unfinished.get(source, {})):
            self.apply(Ended(request), now_s, source)
        self._unfinished.pop(source, None)

    def _choose(self, work: Work, candidates: list[str], now_s: float) -> tuple[int, int]:
        """The index of one, and the tokens of the prompt that are cached there."""
        cached_by_slot = self._index.cached_tokens(work.prefix)
        if len(candidates) == 1:
            return 0, cached_by_slot[self._slots[candidates[0]]]
        if candidates != self._candidates or not candidates:
            self._candidates = candidates
            self._candidate_slots = [self._slots[replica_id] for replica_id in candidates]
            loads = [self.loads[replica_id] for replica_id in candidates]
            self._candidate_loads = Loads(loads, self._table, self._candidate_slots)
        cached = array("q", map(cached_by_slot.__getitem__, self._candidate_slots))
        chosen = self.policy.choose(work, self._candidate_loads, cached, now_s)
        return chosen, cached[chosen]

    def _place(self, event: Placed, now_s: float, source: str) -> None:
        load = self.loads.get(event.replica_id)
        if load is None:
            return
        prefix = Prefix(event.hashes, event.ends_tokens, event.prompt_tokens, event.answer)
        work = Work(prefix, event.prompt_tokens, event.output_tokens, streamed=event.streamed)
        booking = load.book(work, event.cached_tokens, now_s, learn=source == OWN)
        slot = self._slots[event.replica_id]
        self._table.note(slot, load)
        self._index.touch(slot, prefix)
        unfinished = self._unfinished.setdefault(source, {})
        unfinished[event.request] = _Unfinished(event, booking, prefix)

    def _end(self, event: Ended, now_s: float, source: str) -> None:
        ended = self._unfinished.get(source, {}).pop(event.request, None)
        if ended is None:
            return
        ended.booking.end(now_s, event.output_tokens or None)
        slot = self._note(ended.placed.replica_id, ended.booking)
        if slot is not None and event.output_tokens:
            self._index.touch(slot, ended.prefix, event.output_tokens)

    def _note(self, replica_id: str, booking: Booking) -> int | None:
        """The load of the booking has changed. Its slot, if the replica is still there."""
        slot = self._slots.get(replica_id)
        if slot is not None and self.loads[replica_id] is booking.load:
            self._table.note(slot, booking.load)
        return slot

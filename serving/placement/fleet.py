"""The replicas of a model as one router knows them."""

from array import array
from collections.abc import Callable, Sequence

from serving.placement.capacity import Capacity
from serving.placement.load import Booking, ReplicaLoad
from serving.placement.load_table import Loads, LoadTable
from serving.placement.policies import Policy
from serving.placement.prefix import Prefix
from serving.placement.prefix_index import PrefixIndex
from serving.placement.rates import Rates
from serving.placement.sessions import Sessions
from serving.placement.work import Work


class Fleet:
    """The ledger of bookings, the prefix index and the placement policy of one model. Routers that
    make the same calls in the same order have the same state."""

    def __init__(self, policy: Policy, first_rates: Callable[[], Rates] = Rates) -> None:
        self.policy = policy
        self.loads: dict[str, ReplicaLoad] = {}
        """Loads by replica id."""
        self.sessions = Sessions()
        self._first_rates = first_rates
        self._index = PrefixIndex()
        self._slots: dict[str, int] = {}
        self._table = LoadTable()
        self._candidates: Sequence[ReplicaLoad] = []
        self._candidate_slots: list[int] = []
        self._candidate_loads = Loads([], self._table, [])
        """The loads of the last decision, which are usually the same again."""

    def add(self, replica_id: str, capacity: Capacity) -> None:
        """Adds a replica that is up, with nothing cached."""
        self.loads[replica_id] = load = ReplicaLoad(replica_id, capacity, self._first_rates())
        self._slots[replica_id] = slot = self._index.add_replica(capacity.prefix_cache_tokens)
        self._table.note(slot, load)
        self._candidates = []

    def remove(self, replica_id: str) -> None:
        """Removes a replica, which takes no more requests. Its bookings still have to be ended."""
        self.sessions.end_all(self.loads.pop(replica_id))
        slot = self._slots.pop(replica_id)
        self._index.remove_replica(slot)
        self._table.forget(slot)
        self._candidates = []

    def choose(
        self, work: Work, candidates: Sequence[ReplicaLoad], now_s: float
    ) -> tuple[ReplicaLoad, int]:
        """Returns the best of these replicas for a request, and the prompt tokens cached there. The
        list must not be changed afterwards. Raises ValueError if it is empty."""
        cached_by_slot = self._index.cached_tokens(work.prefix)
        if len(candidates) == 1:
            return candidates[0], cached_by_slot[self._slots[candidates[0].replica_id]]
        if candidates is not self._candidates or not candidates:
            self._candidates = candidates
            self._candidate_slots = [self._slots[load.replica_id] for load in candidates]
            self._candidate_loads = Loads(candidates, self._table, self._candidate_slots)
        cached = array("q", map(cached_by_slot.__getitem__, self._candidate_slots))
        chosen = self.policy.choose(work, self._candidate_loads, cached, now_s)
        return candidates[chosen], cached[chosen]

    def most_cached_tokens(self, prefix: Prefix) -> int:
        """Returns the most tokens of this prompt that any replica has cached."""
        return max(self._index.cached_tokens(prefix), default=0)

    def uncached_tokens(self, work: Work) -> int:
        """Returns the prompt tokens to prefill on the replica that has most of them cached."""
        return max(work.prompt_tokens - self.most_cached_tokens(work.prefix), 0)

    def cached_blocks(self, replica_id: str) -> dict[int, int]:
        """Returns the blocks that this replica has cached and their tokens, least recently used
        first."""
        return self._index.blocks(self._slots[replica_id])

    def restore(self, replica_id: str, blocks: dict[int, int]) -> None:
        """Adds to what this replica has cached what another router knows of it."""
        if (slot := self._slots.get(replica_id)) is not None:
            self._index.restore(slot, blocks)

    def book(
        self, work: Work, load: ReplicaLoad, cached_tokens: int, now_s: float, learn: bool = True
    ) -> Booking:
        """Books a request on a replica that is up. `learn`: see `ReplicaLoad.book`."""
        booking = load.book(work, cached_tokens, now_s, learn)
        slot = self._slots[load.replica_id]
        self._table.note(slot, load)
        self._index.touch(slot, work.prefix)
        tokens = work.prompt_tokens + work.output_tokens
        self.sessions.begin(booking, tokens, cached_tokens, now_s)
        return booking

    def first_token(self, booking: Booking, now_s: float) -> None:
        booking.first_token(now_s)
        self._note(booking)

    def end(self, booking: Booking, now_s: float, output_tokens: int = 0) -> None:
        """Ends a booking. `output_tokens` is the length of an answer that is complete, which is
        then cached on the replica; 0 if it failed or its client left."""
        booking.end(now_s, output_tokens or None)
        self.sessions.end(booking, now_s)
        slot = self._note(booking)
        if slot is not None and output_tokens:
            self._index.touch(slot, booking.prefix, output_tokens)

    def _note(self, booking: Booking) -> int | None:
        """Notes a change of the booking's load. Returns its slot, if the replica is still up."""
        load = booking.load
        slot = self._slots.get(load.replica_id)
        if slot is not None and self.loads[load.replica_id] is load:
            self._table.note(slot, load)
            return slot
        return None

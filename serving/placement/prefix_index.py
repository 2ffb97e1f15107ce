"""An estimate of which replica holds which prefix in its KV cache."""

from collections import OrderedDict

from serving.placement.prefix import Prefix, answer_hash

_MOST_TOKENS = 8_000_000
"""Assumed capacity of a replica that reports none."""


class _Cache:
    """The blocks of one replica and their tokens, least recently used first."""

    __slots__ = ("blocks", "capacity_tokens", "tokens")

    def __init__(self, capacity_tokens: int) -> None:
        self.capacity_tokens = capacity_tokens
        self.blocks: OrderedDict[int, int] = OrderedDict()
        self.tokens = 0


class PrefixIndex:
    """Keeps, for each replica's slot, an LRU of blocks that evicts as vLLM's cache does: the least
    recently used first, and the end of a prompt before its beginning.

    Memory is bounded by the replicas' capacities: about 300 bytes for 64 tokens of each.
    """

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}
        """The slots that hold each block, as bits."""
        self._caches: list[_Cache | None] = []

    def __len__(self) -> int:
        """The number of distinct blocks held."""
        return len(self._holders)

    def add_replica(self, capacity_tokens: int) -> int:
        """Adds a replica with that capacity, and returns its slot: the lowest free one."""
        cache = _Cache(min(capacity_tokens, _MOST_TOKENS))
        for slot, other in enumerate(self._caches):
            if other is None:
                self._caches[slot] = cache
                return slot
        self._caches.append(cache)
        return len(self._caches) - 1

    def remove_replica(self, slot: int) -> None:
        """Forgets a replica's blocks; its slot may be reused. A replica whose engine restarted is
        removed and added."""
        cache = self._at(slot)
        self._caches[slot] = None
        for block in cache.blocks:
            self._drop(block, 1 << slot)

    def cached_tokens(self, prefix: Prefix) -> list[int]:
        """Returns, for each slot, the tokens from the beginning of the prompt that are cached
        there."""
        cached = [0] * len(self._caches)
        going = (1 << len(cached)) - 1
        """Slots that hold all blocks so far."""
        answered = 0
        """Slots that generated the turn being walked."""
        holders, ends = self._holders, prefix.ends_tokens
        start, stop = prefix.answer or (-1, -1)
        end = 0
        for index, block in enumerate(prefix.hashes):
            if index == start:
                answered = holders.get(answer_hash(prefix.hashes[index - 1]), 0) & going
            elif index == stop:
                going |= answered
                answered = 0
            holding = holders.get(block, 0) & going
            if holding != going:
                if end:
                    _fill(cached, going ^ holding, end)
                going = holding
                if not going and not answered:
                    return cached
            end = ends[index]
        _fill(cached, going | answered, end)
        return cached

    def touch(self, slot: int, prefix: Prefix, answer_tokens: int = 0) -> None:
        """Records that the replica read this prompt or, with `answer_tokens`, answered it."""
        cache = self._at(slot)
        blocks, holders, bit = cache.blocks, self._holders, 1 << slot
        hashes, ends = prefix.hashes, prefix.ends_tokens
        if answer_tokens and hashes:
            self._hold(cache, bit, answer_hash(hashes[-1]), answer_tokens)
        for index in range(len(hashes) - 1, -1, -1):
            block = hashes[index]
            if block in blocks:
                blocks.move_to_end(block)
            else:
                size = ends[index] - ends[index - 1] if index else ends[0]
                blocks[block] = size
                cache.tokens += size
                holders[block] = holders.get(block, 0) | bit
        if prefix.answer is not None:  # now held in the form that the client sent back
            self._forget(cache, bit, answer_hash(hashes[prefix.answer[0] - 1]))
        while cache.tokens > cache.capacity_tokens:
            block, size = blocks.popitem(last=False)
            cache.tokens -= size
            self._drop(block, bit)

    def blocks(self, slot: int) -> dict[int, int]:
        """Returns a replica's blocks and their tokens, least recently used first."""
        return dict(self._at(slot).blocks)

    def restore(self, slot: int, blocks: dict[int, int]) -> None:
        """Adds blocks as `blocks` of another index returned them, as far as there is room: as less
        recently used than those that the replica has here."""
        cache = self._at(slot)
        for block in reversed(blocks):
            if block not in cache.blocks:
                if cache.tokens + blocks[block] > cache.capacity_tokens:
                    return
                self._hold(cache, 1 << slot, block, blocks[block])
                cache.blocks.move_to_end(block, last=False)

    def _at(self, slot: int) -> _Cache:
        cache = self._caches[slot]
        if cache is None:
            raise KeyError(f"no replica has slot {slot}")
        return cache

    def _hold(self, cache: _Cache, bit: int, block: int, size: int) -> None:
        cache.tokens += size - cache.blocks.pop(block, 0)
        cache.blocks[block] = size
        self._holders[block] = self._holders.get(block, 0) | bit

    def _forget(self, cache: _Cache, bit: int, block: int) -> None:
        size = cache.blocks.pop(block, None)
        if size is not None:
            cache.tokens -= size
            self._drop(block, bit)

    def _drop(self, block: int, bit: int) -> None:
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]


def _fill(cached: list[int], slots: int, tokens: int) -> None:
    """Sets the cached tokens of these slots, given as bits."""
    if 4 * slots.bit_count() > slots.bit_length():  # faster than finding each bit
        for slot, bit in enumerate(bin(slots)[:1:-1]):
            if bit == "1":
                cached[slot] = tokens
        return
    while slots:
        lowest = slots & -slots
        cached[lowest.bit_length() - 1] = tokens
        slots ^= lowest

"""The KV cache of earlier prompts in a simulated engine's main memory."""

from collections import OrderedDict
from collections.abc import Sequence


class HostCache:
    """Keeps the stretches of prefixes that the engine has computed, as `BlockCache` names them. The
    least recently used is dropped first, of a prefix its tail."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self._free = blocks
        self._block_tokens = block_tokens
        self._blocks: OrderedDict[int, int] = OrderedDict()

    def put(self, key: int, blocks: int) -> None:
        """Keeps a stretch of that many blocks."""
        self._free += self._blocks.pop(key, 0) - blocks
        self._blocks[key] = blocks
        while self._free < 0:
            self._free += self._blocks.popitem(last=False)[1]

    def find(self, hashes: Sequence[int], ends_tokens: Sequence[int], stretch: int) -> int:
        """Returns how many blocks of a prefix are cached, if all before that stretch are. All of
        the prefix counts as used."""
        for key in reversed(hashes):
            if key in self._blocks:
                self._blocks.move_to_end(key)
        begin = ends_tokens[stretch - 1] // self._block_tokens if stretch else 0
        for key, end_tokens in zip(hashes[stretch:], ends_tokens[stretch:], strict=True):
            end = end_tokens // self._block_tokens
            if end > begin:
                if self._blocks.get(key, 0) < end - begin:
                    break
                begin = end
        return begin

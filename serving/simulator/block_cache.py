"""An engine's KV cache: reference-counted blocks with LRU eviction."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Piece:
    """The whole blocks of one stretch of a prefix, and the number of sequences that use them."""

    key: int
    blocks: int
    users: int


class BlockCache:
    """A block cache that behaves like vLLM's: blocks of a prefix stay when no sequence uses them
    any more, and the least recently used prefix is evicted first, from its tail.

    Blocks of one stretch (a hash of a `Prefix`) are counted, not listed: they come and go together
    except for the tail that eviction takes, so the result is that of single blocks.
    """

    def __init__(self, blocks: int, block_tokens: int = 16) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self._free = blocks
        self._unused = 0
        self._pieces: dict[int, Piece] = {}
        self._lru: OrderedDict[int, Piece] = OrderedDict()

    @property
    def available(self) -> int:
        """Number of blocks that no sequence uses."""
        return self._free + self._unused

    def find(self, hashes: Sequence[int], ends_tokens: Sequence[int]) -> tuple[list[Piece], int]:
        """The longest cached beginning of a prefix, and the number of its stretches that are cached
        whole. The last piece may cover a part of the next stretch."""
        found: list[Piece] = []
        begin = 0
        for stretch, end_tokens in enumerate(ends_tokens):
            end = end_tokens // self.block_tokens
            if end > begin:
                piece = self._pieces.get(hashes[stretch])
                if piece is None:
                    return found, stretch
                found.append(piece)
                if piece.blocks < end - begin:
                    return found, stretch
                begin = end
        return found, len(hashes)

    def hold(self, pieces: Sequence[Piece]) -> None:
        """Protects pieces from eviction until their `release`."""
        for piece in pieces:
            if piece.users == 0:
                del self._lru[piece.key]
                self._unused -= piece.blocks
            piece.users += 1

    def take(self, blocks: int) -> None:
        """Takes `blocks`, which must be available, for a sequence, and evicts their content."""
        while self._free < blocks:
            key, piece = next(iter(self._lru.items()))
            taken = min(piece.blocks, blocks - self._free)
            piece.blocks -= taken
            self._unused -= taken
            self._free += taken
            if piece.blocks == 0:
                del self._lru[key], self._pieces[key]
        self._free -= blocks

    def keep(self, key: int, blocks: int) -> Piece | None:
        """Names `blocks` that a sequence took and filled, so that others find them. Returns None if
        blocks of that name are in use: the sequence's own then stay nameless."""
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = Piece(key, blocks, 1)
            return piece
        if piece.users:
            return None
        del self._lru[key]
        self._unused -= piece.blocks
        self._free += piece.blocks
        piece.blocks = blocks
        piece.users = 1
        return piece

    def release(self, pieces: Sequence[Piece], nameless_blocks: int) -> None:
        """Ends a sequence: its nameless blocks are free, and its pieces wait for the next user."""
        self._free += nameless_blocks
        for piece in reversed(pieces):
            piece.users -= 1
            if piece.users == 0:
                self._lru[piece.key] = piece
                self._unused += piece.blocks

"""Beginnings of prompts that requests of every cache salt share.

vLLM separates the prefix cache by a request's salt from the first block on. Here the blocks of a
public system prompt get the hashes that they have without a salt. All blocks behind it keep theirs,
which follow from the salt and from all tokens before them.
"""

from functools import lru_cache

from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import BlockHash, hash_block_tokens
from vllm.v1.request import Request

_REMEMBERED = 256
"""Public beginnings whose hashes are kept."""


def salted_after(public_tokens: int, salt: str) -> str:
    """Returns the salt of a request whose first `public_tokens` are public, as `PublicPrefixes`
    reads it. To vLLM it is a salt of the whole prompt."""
    return f"{public_tokens}:{salt}"


class PublicPrefixes:
    def __init__(self, hash_algorithm: str, block_tokens: int) -> None:
        """`hash_algorithm` is vLLM's name of it, `block_tokens` the size of a block that has a
        hash."""
        self._hash = get_hash_fn_by_name(hash_algorithm)
        self._block_tokens = block_tokens
        self._hashes = lru_cache(_REMEMBERED)(self._unsalted_hashes)

    def share(self, request: Request) -> None:
        """Takes the salt of a request, made by `salted_after`, from its public blocks."""
        if request.cache_salt is None or not request.block_hashes:
            return
        public_tokens = int(request.cache_salt.partition(":")[0])
        # The last whole block is not shared: thus every prompt has a salted block, from which the
        # hashes of its answer's blocks follow.
        blocks = public_tokens // self._block_tokens - 1
        if blocks > 0:
            tokens = request.all_token_ids[: blocks * self._block_tokens]
            request.block_hashes[:blocks] = self._hashes(tuple(tokens))

    def _unsalted_hashes(self, tokens: tuple[int, ...]) -> list[BlockHash]:
        hashes: list[BlockHash] = []
        for start in range(0, len(tokens), self._block_tokens):
            parent = hashes[-1] if hashes else None
            block = tokens[start : start + self._block_tokens]
            hashes.append(hash_block_tokens(self._hash, parent, block))
        return hashes

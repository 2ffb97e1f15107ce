"""vLLM's schedulers, with public beginnings of prompts that requests of every salt share.

vLLM separates the prefix cache by a request's salt from the first block on. These schedulers, which
vLLM loads by its setting `scheduler_cls`, give the blocks of a public system prompt the hashes that
they have without a salt. All blocks behind it keep theirs, which follow from the salt and from all
tokens before them.
"""

from functools import lru_cache
from typing import Any

from vllm.config import VllmConfig
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import BlockHash, hash_block_tokens
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

_REMEMBERED = 256
"""Public beginnings whose hashes are kept."""


def salted_after(public_tokens: int, salt: str) -> str:
    """Returns the salt of a request whose first `public_tokens` are public, for these schedulers.
    Any other scheduler takes it for a salt of the whole prompt."""
    return f"{public_tokens}:{salt}"


class PublicPrefixScheduler(Scheduler):  # type: ignore[misc]  # vLLM has no types
    """Takes the place of vLLM's `Scheduler`."""

    def __init__(self, *args: Any, vllm_config: VllmConfig, **kwargs: Any) -> None:
        super().__init__(*args, vllm_config=vllm_config, **kwargs)
        algorithm = vllm_config.cache_config.prefix_caching_hash_algo
        self._hash = get_hash_fn_by_name(algorithm)
        self._public_hashes = lru_cache(_REMEMBERED)(self._unsalted_hashes)

    def add_request(self, request: Request) -> None:
        if request.cache_salt is not None and request.block_hashes:
            public_tokens = int(request.cache_salt.partition(":")[0])
            # The last whole block is not shared: thus every prompt has a salted block, from which
            # the hashes of its answer's blocks follow.
            blocks = public_tokens // self.hash_block_size - 1
            if blocks > 0:
                tokens = request.all_token_ids[: blocks * self.hash_block_size]
                request.block_hashes[:blocks] = self._public_hashes(tuple(tokens))
        super().add_request(request)

    def _unsalted_hashes(self, tokens: tuple[int, ...]) -> list[BlockHash]:
        hashes: list[BlockHash] = []
        for start in range(0, len(tokens), self.hash_block_size):
            parent = hashes[-1] if hashes else None
            block = tokens[start : start + self.hash_block_size]
            hashes.append(hash_block_tokens(self._hash, parent, block))
        return hashes


class AsyncPublicPrefixScheduler(PublicPrefixScheduler, AsyncScheduler):  # type: ignore[misc]
    """Takes the place of vLLM's `AsyncScheduler`."""


def share_public_prefixes(config: VllmConfig) -> None:
    """Makes vLLM use these schedulers. Raises ValueError if it was told to use another."""
    scheduling = config.scheduler_config
    if scheduling.scheduler_cls is not None:
        raise ValueError("public_system_prompts cannot be combined with vLLM's flag scheduler-cls")
    scheduler = AsyncPublicPrefixScheduler if scheduling.async_scheduling else PublicPrefixScheduler
    scheduling.scheduler_cls = f"{__name__}.{scheduler.__name__}"

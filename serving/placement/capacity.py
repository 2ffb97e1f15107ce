"""What a replica can take at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capacity:
    """The bounds of one replica, by vLLM's names for them."""

    kv_cache_tokens: int
    max_num_seqs: int
    """How many sequences its batch holds."""

    def share(self, kv_tokens: int) -> float:
        """The part of a replica that a request takes, above 0 and at most 1: of its KV cache or of
        its batch, whichever is the larger part. All estimates are in this unit, as it holds
        whether memory or batch is what runs out.
        """
        return min(1.0, max(kv_tokens / self.kv_cache_tokens, 1 / self.max_num_seqs))


UNLIMITED = Capacity(kv_cache_tokens=1 << 60, max_num_seqs=1 << 30)
"""The capacity of a server that says nothing of its memory."""

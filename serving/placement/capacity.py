"""The capacity of one replica."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capacity:
    """The bounds of one replica, by vLLM's names."""

    kv_cache_tokens: int
    max_num_seqs: int
    """The number of sequences in its batch."""
    host_kv_cache_tokens: int = 0
    """Tokens of earlier prompts that main memory keeps; it has those of the KV cache too."""

    @property
    def prefix_cache_tokens(self) -> int:
        """Tokens of earlier prompts that need not be computed again."""
        return max(self.kv_cache_tokens, self.host_kv_cache_tokens)

    def share(self, kv_tokens: int) -> float:
        """Returns the part of a replica that a request takes, above 0 and at most 1: of its KV
        cache or of its batch, whichever is larger. All estimates use this unit, as it holds whether
        memory or batch is the bottleneck."""
        return min(1.0, max(kv_tokens / self.kv_cache_tokens, 1 / self.max_num_seqs))

    def share_of(self, requests: int, kv_tokens: int) -> float:
        """Returns the part of a replica that some requests take together; above 1 where they queue
        in the engine."""
        return max(kv_tokens / self.kv_cache_tokens, requests / self.max_num_seqs)


UNLIMITED = Capacity(kv_cache_tokens=1 << 60, max_num_seqs=1 << 30)
"""The capacity of a server that does not report its memory."""

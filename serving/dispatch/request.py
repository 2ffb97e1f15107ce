"""A client's request as the dispatcher sees it."""

import msgspec

from serving.placement import Work

PRIORITIES = 10
DEFAULT_PRIORITY = 5


class Request(msgspec.Struct, frozen=True):
    work: Work
    priority: int = DEFAULT_PRIORITY
    """Priority from 0 to 9; higher goes first."""
    timeout_s: float | None = None
    """The client's timeout: for the whole answer, or for its first byte if it is streamed."""
    key: int | None = None
    """Identifies a retry of the same request, such as a hash of its body. Without a key, a retry
    counts as a new request."""
    tenant: str = ""
    """The tenant that shares the replicas with others; empty if there are none."""
    weight: float = 1.0
    """The tenant's part of the engines' time, relative to the weights of others."""

    @property
    def kv_tokens(self) -> int:
        """The KV cache tokens of its prompt and its expected answer."""
        return self.work.prompt_tokens + self.work.output_tokens

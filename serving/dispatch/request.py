"""What a client asks for, as the dispatcher sees it."""

from dataclasses import dataclass

from serving.placement import Work

PRIORITIES = 10
DEFAULT_PRIORITY = 5


@dataclass(frozen=True, slots=True)
class Request:
    work: Work
    priority: int = DEFAULT_PRIORITY
    """From 0 to 9; the higher goes first."""
    timeout_s: float | None = None
    """How long the client waits: for the answer, or for its first byte if it is streamed."""
    key: int | None = None
    """Equal for a request that is sent again, such as a hash of its body. Without a key a client
    that was rejected counts as a new one when it comes back.
    """

    @property
    def kv_tokens(self) -> int:
        """The KV cache that its prompt and its expected answer take on a replica."""
        return self.work.prompt_tokens + self.work.output_tokens

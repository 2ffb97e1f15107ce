"""What a scaling policy sees of a model."""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Of all replicas and all routers together, at one moment. What is "of a replica" is of one
    that has the model to itself; it must be above 0, and is a first guess until one was up.
    """

    up: int
    """Replicas that take requests."""
    starting: int = 0
    """Replicas that were asked for and are not up yet."""
    draining: int = 0
    """Replicas that finish their answers and take no more."""

    offered_prefill_tokens_per_s: float
    """Prompt tokens of the requests that came since the last time and that no replica has cached,
    whether they were placed, wait or were refused. A refused one that comes back counts once.
    """
    prefill_tokens_per_s: float
    """That a replica prefills."""

    running_kv_tokens: float
    """Of the KV cache that requests on replicas need until their ends."""
    waiting_kv_tokens: float
    """The same of requests without a replica."""
    kv_cache_tokens: float
    """That a replica's KV cache holds."""

    running_requests: float
    waiting_requests: float
    """Without a replica; those that were told to come back among them."""
    max_num_seqs: float
    """Requests in a replica's batch."""

    waiting_prefill_tokens: float
    """Uncached prompt tokens of requests without a replica."""

    residence_time_s: float
    """From a request's place on a replica to its end, as measured."""
    startup_s: float
    """From the decision for a replica to its first request, as measured."""

    @property
    def replicas(self) -> int:
        """What the last decisions came to."""
        return self.up + self.starting

    @property
    def busy(self) -> bool:
        return bool(
            self.running_requests or self.waiting_requests or self.offered_prefill_tokens_per_s
        )

    @property
    def least_for_running(self) -> int:
        """Replicas that hold what runs, full to the brim."""
        kv_cache = self.running_kv_tokens / self.kv_cache_tokens
        batch = self.running_requests / self.max_num_seqs
        return ceil(max(kv_cache, batch, 1.0 if self.running_requests else 0.0))

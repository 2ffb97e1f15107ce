"""What a scaling policy sees of a model."""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The state of a model at one moment, over all replicas and all routers. Rates and capacities
    of one replica assume that it has the model to itself; they must be above 0, and are first
    guesses until a replica was up.
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
    """Prefill rate of one replica."""

    running_kv_tokens: float
    """KV cache that requests on replicas need until they end."""
    waiting_kv_tokens: float
    """KV cache that requests without a replica will need."""
    kv_cache_tokens: float
    """KV cache capacity of one replica."""

    running_requests: float
    waiting_requests: float
    """Requests without a replica, those that were told to retry among them."""
    max_num_seqs: float
    """Most requests in a replica's batch."""

    waiting_prefill_tokens: float
    """Uncached prompt tokens of requests without a replica."""

    residence_time_s: float
    """Residence time of a request on a replica, as measured."""
    startup_s: float
    """Time from the decision for a replica to its first request, as measured."""

    @property
    def replicas(self) -> int:
        """Number of replicas that the last decisions came to."""
        return self.up + self.starting

    @property
    def busy(self) -> bool:
        return bool(
            self.running_requests or self.waiting_requests or self.offered_prefill_tokens_per_s
        )

    @property
    def least_for_running(self) -> int:
        """Number of completely full replicas that hold all that runs."""
        kv_cache = self.running_kv_tokens / self.kv_cache_tokens
        batch = self.running_requests / self.max_num_seqs
        return ceil(max(kv_cache, batch, 1.0 if self.running_requests else 0.0))

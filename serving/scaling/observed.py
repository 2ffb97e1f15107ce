"""The input of a scaling policy."""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The state of a model at one moment, over all replicas and all routers. Rates and capacities
    of one replica assume that the model has it to itself. They must be above 0, and are first
    guesses until a replica was up."""

    up: int
    """Replicas that take requests."""
    starting: int = 0
    """Replicas that were requested and are not up yet."""
    draining: int = 0
    """Replicas that finish their answers and accept no more."""

    offered_prefill_tokens_per_s: float
    """Prompt tokens, cached on no replica, of the requests that arrived since the last observation,
    whether they were placed, wait or were rejected. A rejected request that returns counts once."""
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
    """Requests without a replica, including rejected ones that hold a retry reservation."""
    max_num_seqs: float
    """Most requests in a replica's batch."""

    waiting_prefill_tokens: float
    """Uncached prompt tokens of requests without a replica."""

    residence_time_s: float
    """Residence time of a request on a replica, as measured."""
    startup_s: float
    """Measured time from the decision for a replica to its first request."""

    @property
    def replicas(self) -> int:
        """Number of replicas according to the last decisions."""
        return self.up + self.starting

    @property
    def busy(self) -> bool:
        return bool(
            self.running_requests or self.waiting_requests or self.offered_prefill_tokens_per_s
        )

    @property
    def least_for_running(self) -> int:
        """Number of full replicas that could hold all running requests."""
        kv_cache = self.running_kv_tokens / self.kv_cache_tokens
        batch = self.running_requests / self.max_num_seqs
        return ceil(max(kv_cache, batch, 1.0 if self.running_requests else 0.0))

"""The counters that a router has for one model."""

from typing import Literal, get_args

from serving.adapters.canary import Tally
from serving.router.telemetry.latency import Latency
from serving.router.telemetry.request_record import RequestRecord

UNKNOWN = "unknown"
"""Label value for models that a client made up or did not name."""

MAX_ADAPTERS = 100
"""The most adapters of a model that have series of their own."""
OTHER = "(other)"
"""Label value for all further ones; no adapter can have this name."""

Outcome = Literal["answered", "client_gone", "invalid", "refused", "failed", "broken"]
"""Outcomes as in the request log, grouped by what an SRE needs to distinguish:

- answered, client_gone, refused, broken: unchanged.
- invalid: a client error (4xx), found by the router or by the engine, or beyond a tenant's limit.
- failed: a service error before the answer began: also `internal_error`, a 5xx of an engine, and
  the 503 of `no_replica`, which is not an overload."""

_OUTCOMES: dict[str, str] = {
    **{name: name for name in get_args(Outcome)},
    "unauthorized": "invalid",
    "limited": "invalid",
    "replicas_failed": "failed",
    "internal_error": "failed",
}


class ModelMetrics:
    """Monotonic counters of one model."""

    __slots__ = (
        "adapters",
        "cached_tokens",
        "duration",
        "expected_cached_tokens",
        "input_tokens",
        "itl",
        "outcomes",
        "output_tokens",
        "queue",
        "ttft",
    )

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = dict.fromkeys(get_args(Outcome), 0)
        self.ttft, self.itl, self.duration, self.queue = (Latency() for _ in range(4))
        self.input_tokens = self.output_tokens = 0
        self.expected_cached_tokens = self.cached_tokens = 0
        self.adapters: dict[str, dict[str, Tally]] = {}
        """Finished requests of each version, stable or canary, of the first adapters that were
        asked for, and of all others."""

    def ended(self, record: RequestRecord) -> None:
        """Counts a request to this model that has ended, from its complete record. The times of a
        batch's are not counted: no one waits for them."""
        name = outcome(record)
        self.outcomes[name] += 1
        if record.batch_id is None:
            if name == "answered":
                self.duration.observe(record.duration_ms / 1000)
            if record.queue_ms is not None:
                self.queue.observe(record.queue_ms / 1000)
        if record.cached_tokens is not None:
            self.cached_tokens += record.cached_tokens
            self.expected_cached_tokens += record.expected_cached_tokens or 0
        if (adapter := record.adapter) is not None:
            if adapter not in self.adapters and len(self.adapters) >= MAX_ADAPTERS:
                adapter = OTHER
            versions = self.adapters.setdefault(adapter, {})
            tally = versions.setdefault("canary" if record.canary else "stable", Tally())
            tally.add(is_failure(record), ttft_s(record))
        self.input_tokens += record.input_tokens
        self.output_tokens += record.output_tokens


def is_failure(record: RequestRecord) -> bool:
    """Whether a request failed through no fault of its client, and not for want of room."""
    return outcome(record) in ("failed", "broken")


def ttft_s(record: RequestRecord) -> float | None:
    return None if record.ttft_ms is None else record.ttft_ms / 1000


def outcome(record: RequestRecord) -> str:
    """Returns the value of the outcome label."""
    status = record.status or 0
    if record.outcome in ("answered", "refused") and status >= 500:
        return "failed"
    if record.outcome == "answered" and status >= 400:
        return "invalid"
    return _OUTCOMES[record.outcome]

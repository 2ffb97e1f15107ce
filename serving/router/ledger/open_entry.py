"""A request that the ledger has no final entry of yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from serving.ledger.entry import ROUTER_ENDED, Entry
from serving.ledger.gpu_time import gpu_seconds
from serving.ledger.settlement import settle
from serving.ledger.tokens import Tokens
from serving.router.replicas.model import Model
from serving.router.replicas.replica import Replica
from serving.router.telemetry.request_record import RequestRecord


@dataclass(eq=False, slots=True)
class Attempt:
    """A replica that was sent the request."""

    number: int
    replica: Replica
    requests_at_begin: int
    """The requests on the replica, this one included."""
    carried_tokens: int = 0
    """The tokens of the answer that it was given to continue."""
    tokens: Tokens | None = None
    """The counts of its engine so far; None if it reports none."""
    is_final: bool = False


@dataclass(eq=False, slots=True)
class OpenEntry:
    """A request, with all that is needed to settle it."""

    record: RequestRecord
    model: Model
    background: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    answering: int = 0
    """The attempt that began the answer, or was the last to try."""
    ended_at: datetime | None = None
    ended_s: float = 0.0
    """When it ended, by time.monotonic()."""

    @property
    def is_settled(self) -> bool:
        """Whether all its engines have told their final counts."""
        return all(attempt.is_final for attempt in self.attempts)

    def final(self) -> Entry:
        """Returns the entry of a request that has ended. In place of counts that no engine has told
        it has the router's own."""
        assert self.ended_at is not None
        counts = [attempt.tokens for attempt in self.attempts]
        return self._entry(self.ended_at, self.record.outcome, counts)

    def so_far(self, now: datetime) -> Entry:
        """Returns the entry as it is to be if the router ends now: with what engines have told."""
        if self.model.backend is not None:
            return self._entry(now, ROUTER_ENDED, [None] * len(self.attempts))
        return self._entry(now, ROUTER_ENDED, [one.tokens or Tokens() for one in self.attempts])

    def _entry(self, at: datetime, outcome: str, counts: Sequence[Tokens | None]) -> Entry:
        record = self.record
        cached_tokens = record.cached_tokens or 0
        counted = Tokens(record.input_tokens, cached_tokens, record.output_tokens)
        settled = settle(counts, self.answering, self.attempts[-1].carried_tokens, outcome, counted)
        return Entry(
            id=self.attempts[0].number,
            at=at,
            request_id=record.request_id,
            tenant=record.tenant or "",
            model=record.adapter or self.model.model_id,
            adapter_version=record.adapter_version,
            key_id=record.key_id,
            outcome=outcome,
            gpu_s=self._gpu_s([tokens or counted for tokens in counts]),
            retries=record.retries,
            continued=record.continued,
            background=self.background,
            batch_id=record.batch_id,
            **settled._asdict(),
        )

    def _gpu_s(self, counts: Sequence[Tokens]) -> float:
        """Returns the estimated GPU-seconds of all attempts."""
        total_s = 0.0
        for attempt, tokens in zip(self.attempts, counts, strict=True):
            load = attempt.replica.load
            sequences = (attempt.requests_at_begin + max(load.requests, 1)) / 2
            total_s += gpu_seconds(tokens, load.rates, self.model.gpus, sequences)
        return round(total_s, 6)

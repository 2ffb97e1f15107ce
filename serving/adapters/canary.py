"""A new version of an adapter beside the stable one: who gets it, and when it takes its place."""

import math
from dataclasses import dataclass
from hashlib import blake2b

from pydantic import Field

from serving.adapters.source import Source
from serving.section import Section

_LEAST_STREAMS = 20
"""Fewer times to first token of a version say nothing of it."""


class Rule(Section):
    """When a canary takes the place of the stable version by itself, and when it is withdrawn. Each
    router judges by what it has relayed."""

    requests: int = Field(ge=20, default=200)
    """Requests to the canary after which it is judged."""
    max_failures: float = Field(ge=0, le=1, default=0.01)
    """How much larger its share of failed requests may be than that of the stable version."""
    max_ttft_ratio: float = Field(gt=0, default=1.25)
    """How many times the TTFT of the stable version its own may be."""


class Canary(Source):
    """A version that is tried."""

    weight: float = Field(ge=0, le=1, default=0)
    """The share of the requests that it gets, beside those that ask for it by a header."""
    rule: Rule | None = None
    """Without it, it is promoted and withdrawn by command."""
    withdrawn: str | None = None
    """Why its rule has withdrawn it. It gets no requests."""


def is_chosen(key: str, weight: float) -> bool:
    """Whether the canary gets the requests of a key, which is a session or a single request. The
    choice is the same in all processes, and more weight takes no key from it."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) < weight * 2**64


@dataclass(slots=True)
class Tally:
    """What became of the requests to a version."""

    requests: int = 0
    failures: int = 0
    """Those that failed through no fault of their client."""
    streams: int = 0
    ttft_s: float = 0.0
    """The sum over all streams."""
    _ttft_logs: float = 0.0

    def add(self, failed: bool, ttft_s: float | None) -> None:
        self.requests += 1
        self.failures += failed
        if ttft_s is not None:
            self.streams += 1
            self.ttft_s += ttft_s
            self._ttft_logs += math.log(max(ttft_s, 1e-6))

    @property
    def failed_share(self) -> float:
        return self.failures / self.requests if self.requests else 0.0

    @property
    def typical_ttft_s(self) -> float:
        """The geometric mean, which a few loads of the adapter do not move much."""
        return math.exp(self._ttft_logs / self.streams) if self.streams else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    is_good: bool
    reason: str


def verdict(rule: Rule, stable: Tally, canary: Tally) -> Verdict | None:
    """Judges a canary beside the stable version. None: it has had too few requests, and not failed
    too many of them yet."""
    most = stable.failed_share + rule.max_failures
    failed = f"{canary.failures} of {canary.requests} requests failed, {most:.1%} may"
    if canary.failures > most * max(rule.requests, canary.requests):
        return Verdict(False, failed)
    if canary.requests < rule.requests:
        return None
    if min(stable.streams, canary.streams) >= _LEAST_STREAMS:
        ratio = canary.typical_ttft_s / stable.typical_ttft_s
        timed = f"its TTFT is {ratio:.2f} times that of the stable version"
        if ratio > rule.max_ttft_ratio:
            return Verdict(False, f"{timed}, {rule.max_ttft_ratio:g} times it may be")
        failed += f"; {timed}"
    return Verdict(True, failed)

"""The result of a run."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from serving.simulator.engine import histogram_quantile_s
from serving.simulator.replicas import Replica
from serving.simulator.request import Outcome


@dataclass(frozen=True, slots=True)
class Slo:
    """The limits of a good request: its first token comes within `ttft_s` and the mean time between
    its tokens is at most `itl_s` (AIPerf's definition of goodput)."""

    ttft_s: float = 2.0
    itl_s: float = 0.025

    def met(self, outcome: Outcome) -> bool:
        ttft_s, itl_s = outcome.ttft_s, outcome.itl_s
        return (
            ttft_s is not None
            and ttft_s <= self.ttft_s
            and outcome.end_s is not None
            and (itl_s is None or itl_s <= self.itl_s)
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run. Rates are per second of the time in which requests were sent; goodput
    counts all that were sent. `spread`: the coefficient of variation of the replicas' requests in
    flight, seen by each arrival, on average. `balance`: busy time of the busiest replica over the
    mean. Follow-ups are the turns after an answer."""

    requests: float
    offered_per_s: float
    goodput_per_s: float
    good_share: float
    ttft_p50_s: float
    ttft_p99_s: float
    itl_p99_s: float
    hit_rate: float
    follow_up_hit_rate: float
    spread: float
    balance: float
    preemptions: float
    refused: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The replicas at one moment, and the number of fully used ones that the arriving work
    needs."""

    at_s: float
    up: int
    starting: int
    draining: int
    demand: float
    waiting: int


@dataclass(frozen=True, slots=True)
class Result:
    """The outcomes and replicas of a run, which ended at `end_s`."""

    outcomes: Sequence[Outcome]
    replicas: Sequence[Replica]
    spread: float
    samples: Sequence[Sample]
    end_s: float

    def itl_histogram(self) -> dict[int, int]:
        """A histogram of all times between tokens; see `histogram_quantile_s`."""
        histogram: Counter[int] = Counter()
        for replica in self.replicas:
            histogram.update(replica.engine.itl_histogram)
        return histogram

    def summary(self, slo: Slo | None = None) -> Summary:
        slo = slo or Slo()
        sent = [outcome.sent_s for outcome in self.outcomes]
        span_s = max(max(sent) - min(sent), 1e-9)
        good = sum(map(slo.met, self.outcomes))
        ttfts_s = sorted(
            math.inf if outcome.ttft_s is None else outcome.ttft_s for outcome in self.outcomes
        )
        follow_ups = [o for o in self.outcomes if o.request.prefix.answer is not None]
        busy_s = [replica.engine.busy_s for replica in self.replicas]
        return Summary(
            requests=len(self.outcomes),
            offered_per_s=len(self.outcomes) / span_s,
            goodput_per_s=good / span_s,
            good_share=good / len(self.outcomes),
            ttft_p50_s=quantile(ttfts_s, 0.5),
            ttft_p99_s=quantile(ttfts_s, 0.99),
            itl_p99_s=histogram_quantile_s(self.itl_histogram(), 0.99),
            hit_rate=hit_rate(self.outcomes),
            follow_up_hit_rate=hit_rate(follow_ups),
            spread=self.spread,
            balance=max(busy_s) * len(busy_s) / max(sum(busy_s), 1e-9),
            preemptions=sum(outcome.preemptions for outcome in self.outcomes),
            refused=sum(outcome.end_s is None for outcome in self.outcomes),
        )


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of the sorted `values` that at least a share `q` of them does not exceed."""
    return values[max(math.ceil(q * len(values)) - 1, 0)]


def hit_rate(outcomes: Sequence[Outcome]) -> float:
    """The cached share of the prompt tokens that engines have read; 0 if there are none."""
    begun = [outcome for outcome in outcomes if outcome.first_token_s is not None]
    tokens = sum(outcome.request.prompt_tokens for outcome in begun)
    return sum(outcome.cached_tokens for outcome in begun) / max(tokens, 1)


def mean(summaries: Sequence[Summary]) -> Summary:
    """The mean of each figure."""
    rows = [astuple(summary) for summary in summaries]
    return Summary(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))

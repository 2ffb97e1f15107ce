"""The figures of a simulated run that tests and benches compare."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from serving.simulator.engine import histogram_quantile_s
from serving.simulator.request import Outcome
from serving.simulator.result import Result, Slo, quantile


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


def summary_of(result: Result, spread: float = math.nan) -> Summary:
    """The figures of a run by the default limits; `spread` is known to whom has observed it."""
    sent = [outcome.sent_s for outcome in result.outcomes]
    span_s = max(max(sent) - min(sent), 1e-9)
    good = sum(map(Slo().met, result.outcomes))
    ttfts_s = sorted(
        math.inf if outcome.ttft_s is None else outcome.ttft_s for outcome in result.outcomes
    )
    follow_ups = [o for o in result.outcomes if o.request.prefix.answer is not None]
    busy_s = [replica.engine.busy_s for replica in result.replicas]
    return Summary(
        requests=len(result.outcomes),
        offered_per_s=len(result.outcomes) / span_s,
        goodput_per_s=good / span_s,
        good_share=good / len(result.outcomes),
        ttft_p50_s=quantile(ttfts_s, 0.5),
        ttft_p99_s=quantile(ttfts_s, 0.99),
        itl_p99_s=histogram_quantile_s(result.itl_histogram(), 0.99),
        hit_rate=hit_rate(result.outcomes),
        follow_up_hit_rate=hit_rate(follow_ups),
        spread=spread,
        balance=max(busy_s) * len(busy_s) / max(sum(busy_s), 1e-9),
        preemptions=sum(outcome.preemptions for outcome in result.outcomes),
        refused=sum(outcome.end_s is None for outcome in result.outcomes),
    )


def hit_rate(outcomes: Sequence[Outcome]) -> float:
    """The cached share of the prompt tokens that engines have read; 0 if there are none."""
    begun = [outcome for outcome in outcomes if outcome.first_token_s is not None]
    tokens = sum(outcome.request.prompt_tokens for outcome in begun)
    return sum(outcome.cached_tokens for outcome in begun) / max(tokens, 1)


def mean(summaries: Sequence[Summary]) -> Summary:
    """The mean of each figure."""
    rows = [astuple(summary) for summary in summaries]
    return Summary(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))

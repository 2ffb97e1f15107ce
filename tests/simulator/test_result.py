import math

import pytest

from serving.placement.prefix import Prefix
from serving.simulator.replicas import Replica
from serving.simulator.request import Outcome, Request
from serving.simulator.result import Result, Slo, quantile
from tests.simulator.engines import mistral_small
from tests.support.summary import summary_of


def outcome(sent_s: float, ttft_s: float, itl_s: float, cached_tokens: int = 0) -> Outcome:
    request = Request(Prefix([1], [100], 100), 11, -1)
    first_s = sent_s + ttft_s
    return Outcome(request, sent_s, 0, cached_tokens, first_s, first_s + 10 * itl_s)


@pytest.mark.parametrize(
    ("ttft_s", "itl_s", "good"), [(1.9, 0.024, True), (2.1, 0.024, False), (1.9, 0.026, False)]
)
def test_good_is_what_meets_both_limits(ttft_s: float, itl_s: float, good: bool) -> None:
    assert Slo().met(outcome(0.0, ttft_s, itl_s)) is good


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    assert Slo().met(Outcome(Request(Prefix([1], [100], 100), 1, -1), 0.0, 0, 0, 1.0, 1.0))


def test_goodput_counts_all_that_were_sent() -> None:
    outcomes = [outcome(float(i), 3.0 if i % 2 else 1.0, 0.01, 50) for i in range(11)]
    outcomes.append(Outcome(outcomes[0].request, 10.0, 0))
    summary = summary_of(Result(outcomes, [Replica(0, mistral_small(), 0.0)], [], 10.0))
    assert summary.goodput_per_s == pytest.approx(0.6)
    assert summary.good_share == 0.5
    assert summary.ttft_p50_s == 1.0 or summary.ttft_p50_s == 3.0
    assert summary.ttft_p99_s == math.inf
    assert summary.hit_rate == 0.5, "what no engine has read does not count"


def test_a_quantile_is_one_of_the_values() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.51) == 3.0
    assert quantile([1.0], 0.99) == 1.0

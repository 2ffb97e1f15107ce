"""serving/deploy/verdict.py: may a rolled out service stay?"""

from collections import Counter

from serving.deploy.probe import Probed
from serving.deploy.verdict import faults

GOOD = Probed(10, (0.2,) * 9)


def test_as_good_as_before_may_stay() -> None:
    assert faults(GOOD, GOOD) == []


def test_a_little_slower_is_jitter_and_twice_as_slow_is_not() -> None:
    assert faults(GOOD, Probed(10, (0.39,) * 9)) == []
    (fault,) = faults(GOOD, Probed(10, (0.41,) * 9))
    assert fault == "the median TTFT is 410 ms; allowed are 400 ms, and it was 200 ms"


def test_a_limit_of_ones_own_holds_in_place_of_before() -> None:
    assert faults(GOOD, Probed(10, (1.9,) * 9), max_ttft_s=2) == []
    assert faults(GOOD, GOOD, max_ttft_s=0.1)


def test_failures_count_against_their_limit_with_the_most_frequent_named() -> None:
    after = Probed(10, (0.2,) * 7, Counter({"HTTP 500": 2, "HTTP 503": 1}))
    (fault,) = faults(GOOD, after, max_error_rate=0.2)
    assert fault == "30% of the requests failed, at most 20% may: HTTP 500 (2), HTTP 503 (1)"
    assert faults(GOOD, after, max_error_rate=0.3) == []


def test_before_without_an_answer_sets_no_limit_of_ttft() -> None:
    assert faults(Probed(4, (), Counter({"HTTP 500": 4})), GOOD) == []


def test_failed_checks_are_named() -> None:
    assert faults(GOOD, GOOD, failed_checks=["tools: no call"]) == ["conformance: tools: no call"]

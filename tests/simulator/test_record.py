import pytest

from serving.placement.prefix import Prefix
from serving.simulator.record import Record
from serving.simulator.request import Outcome, Request
from serving.simulator.result import Slo


def outcome(
    sent_s: float, ttft_s: float | None, itl_s: float = 0.01, cached_tokens: int = 0
) -> Outcome:
    request = Request(Prefix([1], [100], 100), 11, -1)
    if ttft_s is None:
        return Outcome(request, sent_s, -1)
    first_s = sent_s + ttft_s
    return Outcome(request, sent_s, 0, cached_tokens, first_s, first_s + 10 * itl_s)


def record(*outcomes: Outcome) -> Record:
    result = Record(Slo(ttft_s=2.0, itl_s=0.025))
    for one in outcomes:
        result.add(one)
    return result


def test_the_figures_are_of_all_that_were_sent() -> None:
    total = record(
        outcome(0.0, 1.0, cached_tokens=60),
        outcome(1.0, 3.0),
        outcome(2.0, 1.5, itl_s=0.03),
        outcome(3.0, None),
    ).total()
    assert (total.requests, total.good, total.refused) == (4, 1, 1)
    assert total.good_share == 0.25
    assert (total.prompt_tokens, total.output_tokens) == (300, 33)
    assert total.hit_rate == pytest.approx(0.2)
    assert [total.ttft_p50_s, total.ttft_p99_s] == pytest.approx([1.5, 3.0])
    assert [total.itl_p50_s, total.itl_p99_s] == pytest.approx([0.01, 0.03])


def test_windows_are_of_when_requests_were_sent() -> None:
    rows = [outcome(float(at_s), 1.0 if at_s < 300 else None) for at_s in range(600)]
    width_s, windows = record(*rows).windows()
    assert width_s == 5
    assert len(windows) == 120
    assert {window.requests for window in windows} == {5}
    assert [window.refused for window in windows] == [0] * 60 + [5] * 60
    assert windows[-1].ttft_p99_s is None


def test_a_run_without_requests_has_figures_too() -> None:
    empty = record()
    assert empty.total().good_share == 1.0
    assert empty.total().itl_p50_s is None
    assert empty.windows()[0] == 1


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    one = Outcome(Request(Prefix([1], [100], 100), 1, -1), 0.0, 0, 0, 1.0, 1.0)
    total = record(one).total()
    assert (total.good, total.itl_p99_s) == (1, None)

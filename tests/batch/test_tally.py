import pytest

from serving.batch.tally import Tally, duration


def test_a_report_tells_how_far_how_fast_and_how_long_still() -> None:
    tally = Tally(total=10_000, answered_before=1000, failed_before=1, started_s=100)
    for _ in range(999):
        tally.count_answer(tokens=20)
    tally.count_failure("a", "why")
    assert (tally.done, tally.all_answered, tally.all_failed) == (2001, 1999, 2)
    assert tally.report(now_s=150) == (
        "2,001 of 10,000 lines, 2 failed, 7 min left, 20.0 lines/s, 400 tokens/s"
    )


def test_nothing_is_promised_before_a_first_answer() -> None:
    assert Tally(total=5).report(now_s=0) == "0 of 5 lines, 0 failed, 0.0 lines/s, 0 tokens/s"


def test_nothing_is_left_at_the_end() -> None:
    tally = Tally(total=1)
    tally.count_answer(tokens=3)
    assert tally.report(now_s=1) == "1 of 1 lines, 0 failed, 1.0 lines/s, 3 tokens/s"


def test_waiting_lines_and_their_reason_are_shown() -> None:
    report = Tally(total=5, waiting=2, trouble="503: no replica").report(now_s=1)
    assert report.endswith("2 to try again (503: no replica)")


def test_only_the_first_failures_are_kept() -> None:
    tally = Tally(total=100)
    for number in range(20):
        tally.count_failure(str(number), "why")
    assert tally.failed == 20
    assert tally.failures == [f"{number}: why" for number in range(10)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99, "99 s"), (101, "2 min"), (5000, "83 min"), (12_000, "3 h 20 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

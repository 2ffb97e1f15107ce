from datetime import UTC, datetime, timedelta

import pytest

from serving.batch import retry

NOW = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)


def test_what_may_succeed_later_is_tried_again_and_nothing_else() -> None:
    statuses = (200, 301, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529)
    again = [status for status in statuses if retry.is_worth_retrying(status)]
    assert again == [408, 429, 500, 502, 503, 504, 529]


def test_waits_double_up_to_a_minute() -> None:
    waits = [retry.wait_s(failures, 0, jitter=0) for failures in range(1, 10)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert retry.wait_s(100_000, 0, jitter=0) == 60


def test_the_service_is_never_asked_before_it_said() -> None:
    assert retry.wait_s(1, 20, jitter=0) == 20
    assert retry.wait_s(6, 20, jitter=0) == 32
    assert retry.wait_s(1, 86400, jitter=0) == retry.LONGEST_RETRY_AFTER_S


def test_jitter_only_adds() -> None:
    assert retry.wait_s(1, 20, jitter=1) == 25


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("soon", 0),
        ("Sun, 01 Feb 2026 00:00:30 GMT", 60),
        ("Sun, 01 Feb 2026 00:00:30", 60),
        ("Sat, 31 Jan 2026 23:59:00 GMT", 0),
    ],
)
def test_retry_after_in_both_its_forms(header: str | None, seconds: float) -> None:
    assert retry.retry_after_s(header, NOW) == timedelta(seconds=seconds).total_seconds()

from datetime import UTC, datetime

import pytest

from serving.dispatch import Allowance
from serving.router.http.rate_limit_headers import duration, rate_limit_headers


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, b"0s"),
        (0.02, b"20ms"),
        (1, b"1s"),
        (8.64, b"8.64s"),
        (59.9996, b"1m0s"),
        (360, b"6m0s"),
        (90.5, b"1m30.5s"),
        (86_370, b"23h59m30s"),
        (3600, b"1h0m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, written: bytes) -> None:
    assert duration(seconds) == written


def test_each_api_has_its_own_headers() -> None:
    left = Allowance(60, 59, 1.0)
    assert rate_limit_headers("/v1/responses", left, None) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
    ]
    now = datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
    assert rate_limit_headers("/v1/messages", None, left, now) == [
        (b"anthropic-ratelimit-tokens-limit", b"60"),
        (b"anthropic-ratelimit-tokens-remaining", b"59"),
        (b"anthropic-ratelimit-tokens-reset", b"2026-01-02T00:00:00Z"),
    ]

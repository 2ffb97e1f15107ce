"""Decides when a failed request is retried. Pure: no clock, no randomness of its own."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
LONGEST_RETRY_AFTER_S = 600.0
"""Upper limit of a Retry-After."""

_SPREAD = 0.25


def is_worth_retrying(status: int) -> bool:
    """Whether the same request may succeed later: time-outs, too many requests, server errors."""
    return status in (408, 429) or status >= 500


def wait_s(failures: int, retry_after_s: float, jitter: float) -> float:
    """The wait after the `failures`-th failure in a row, from 1: 1, 2, 4 … 60 s, or the service's
    Retry-After if that is longer, plus up to a quarter by `jitter` (0 to 1), so that lines that
    failed together do not return together."""
    backoff_s = min(FIRST_WAIT_S * 2.0 ** min(failures - 1, 10), LONGEST_WAIT_S)
    asked_s = min(retry_after_s, LONGEST_RETRY_AFTER_S)
    return max(backoff_s, asked_s) * (1 + _SPREAD * jitter)


def retry_after_s(header: str | None, now: datetime) -> float:
    """The seconds of a Retry-After header, in either of its forms; 0 without one."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())

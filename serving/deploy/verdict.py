"""Decides whether a new version is as good as the old one."""

from collections.abc import Iterable

from serving.deploy.probe import Probed

_SLOWER = 1.5
_JITTER_S = 0.1
"""How much a short TTFT varies from one set of requests to the next."""


def faults(
    before: Probed,
    after: Probed,
    max_error_rate: float = 0.0,
    max_ttft_s: float | None = None,
    failed_checks: Iterable[str] = (),
) -> list[str]:
    """The reasons to roll the new version back; none if it may stay. Without `max_ttft_s` its TTFT
    may be 1.5 times the one before."""
    found = []
    if after.error_rate > max_error_rate:
        what = ", ".join(f"{why} ({count})" for why, count in after.failures.most_common(3))
        found.append(
            f"{after.error_rate:.0%} of the requests failed, at most {max_error_rate:.0%} "
            f"may: {what}"
        )
    limit_s = max_ttft_s
    if limit_s is None:
        limit_s = before.median_ttft_s * _SLOWER + _JITTER_S
    if after.ttft_s and after.median_ttft_s > limit_s:
        found.append(
            f"the median TTFT is {1000 * after.median_ttft_s:.0f} ms; allowed are "
            f"{1000 * limit_s:.0f} ms, and it was {1000 * before.median_ttft_s:.0f} ms"
        )
    found += [f"conformance: {name}" for name in failed_checks]
    return found

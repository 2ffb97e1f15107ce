"""The state of a model, put together from the reports of all routers."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence

from serving.scaling.observed import Observed
from serving.scaling.report import Report, TimedReport

_SILENT_S = 10.0
"""Age beyond which a router's last report is not waited for."""


class Moments:
    """Determines the times, at least a period apart, at which the reports of all routers are
    complete."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._now_s: float | None = None

    def pass_by(self, timed: Mapping[str, Sequence[TimedReport]]) -> Iterator[tuple[float, float]]:
        """Yields the end of each period that has passed since the last call, with the time of the
        period before. The first call covers all that the routers remember, so that a restart loses
        nothing."""
        if not timed:
            return
        newest_s = [reports[-1].at_s for reports in timed.values()]
        until_s = min(at_s for at_s in newest_s if at_s > max(newest_s) - _SILENT_S)
        oldest_s = min(reports[0].at_s for reports in timed.values())
        if self._now_s is None or self._now_s < oldest_s:
            self._now_s = oldest_s
        while (left_s := until_s - self._now_s) >= self._period_s:
            before_s = self._now_s
            # The last period ends as late as possible.
            self._now_s = until_s if left_s < 2 * self._period_s else before_s + self._period_s
            yield before_s, self._now_s


def observed_at(
    timed: Mapping[str, Sequence[TimedReport]],
    before_s: float,
    now_s: float,
    *,
    up: int,
    starting: int,
    startup_s: float,
) -> Observed:
    """The state at `now_s`, and the work that arrived since `before_s`. At least one router must
    have reported."""
    reports = [_at(one, now_s) for one in timed.values()]

    def per_s(total: Callable[[Report], float]) -> float:
        came = sum(
            _until(one, now_s, total) - _until(one, before_s, total) for one in timed.values()
        )
        return came / (now_s - before_s)

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    return Observed(
        up=up,
        starting=starting,
        draining=round(max(report.draining for report in reports)),
        offered_prefill_tokens_per_s=per_s(lambda report: report.offered_prefill_tokens),
        prefill_tokens_per_s=mean([report.prefill_tokens_per_s for report in reports]),
        # Each router knows all running requests; a new router will in a moment.
        running_kv_tokens=max(report.running_kv_tokens for report in reports),
        running_requests=max(report.running_requests for report in reports),
        waiting_kv_tokens=sum(report.waiting_kv_tokens for report in reports),
        waiting_requests=sum(report.waiting_requests for report in reports),
        waiting_prefill_tokens=sum(report.waiting_prefill_tokens for report in reports),
        kv_cache_tokens=min(report.kv_cache_tokens for report in reports),
        max_num_seqs=min(report.max_num_seqs for report in reports),
        residence_time_s=mean([report.residence_time_s for report in reports]),
        startup_s=startup_s,
    )


def _at(timed: Sequence[TimedReport], now_s: float) -> Report:
    """The last report until `now_s`, or the first report if there was none."""
    return timed[max(0, bisect_right(timed, now_s, key=lambda one: one.at_s) - 1)].report


def _until(timed: Sequence[TimedReport], now_s: float, total: Callable[[Report], float]) -> float:
    """The total until `now_s`, interpolated between two reports."""
    after = bisect_right(timed, now_s, key=lambda one: one.at_s)
    if after in (0, len(timed)):
        return total(timed[max(0, after - 1)].report)
    first, second = timed[after - 1], timed[after]
    part = (now_s - first.at_s) / (second.at_s - first.at_s)
    return total(first.report) + (total(second.report) - total(first.report)) * part

"""A router's report on a model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Report:
    """A router's report. Most of its fields are those of `Observed`."""

    offered_prefill_tokens: float
    """Tokens since this router began. Each router counts its own requests."""
    waiting_prefill_tokens: float
    """Tokens of this router's waiting requests; the next two fields are this router's too."""
    waiting_kv_tokens: float
    waiting_requests: float
    running_kv_tokens: float
    """Tokens of all routers' requests, as far as this one knows; the next two fields cover all
    routers too."""
    running_requests: float
    draining: float
    """Number of replicas that drain."""
    prefill_tokens_per_s: float
    kv_cache_tokens: float
    max_num_seqs: float
    residence_time_s: float

    def named(self, model_id: str) -> dict[str, float]:
        """The fields as named numbers, distinct from those of other models."""
        return {f"{model_id}/{name}": value for name, value in asdict(self).items()}


NAMES = [field.name for field in fields(Report)]


@dataclass(frozen=True, slots=True)
class TimedReport:
    """A report and its time by the router's clock."""

    at_s: float
    report: Report


def read(
    model_id: str, series: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> dict[str, list[TimedReport]]:
    """The reports on a model, by router and in order, from the named numbers with their times and
    values by router. An incomplete report is skipped."""
    columns = [series.get(f"{model_id}/{name}", {}) for name in NAMES]
    timed: dict[str, list[TimedReport]] = {}
    for router_id in columns[0]:
        by_time: dict[float, list[float]] = {}
        for column in columns:
            for at_s, value in column.get(router_id, ()):
                by_time.setdefault(at_s, []).append(value)
        timed[router_id] = [
            TimedReport(at_s, Report(*values))
            for at_s, values in sorted(by_time.items())
            if len(values) == len(NAMES)
        ]
    return {router_id: reports for router_id, reports in timed.items() if reports}

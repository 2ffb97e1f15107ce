"""What a router tells of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Report:
    """Most of it as `Observed` has it."""

    offered_prefill_tokens: float
    """In all, since this router began. The others count their own."""
    waiting_prefill_tokens: float
    """This router's, as are the next two."""
    waiting_kv_tokens: float
    waiting_requests: float
    running_kv_tokens: float
    """Of all routers, as this one knows, as are the next two."""
    running_requests: float
    draining: float
    """Replicas."""
    prefill_tokens_per_s: float
    kv_cache_tokens: float
    max_num_seqs: float
    residence_time_s: float

    def named(self, model_id: str) -> dict[str, float]:
        """As numbers with a name each, beside those of other models."""
        return {f"{model_id}/{name}": value for name, value in asdict(self).items()}


NAMES = [field.name for field in fields(Report)]


@dataclass(frozen=True, slots=True)
class TimedReport:
    """A report and its time, of the router's clock."""

    at_s: float
    report: Report


def read(
    model_id: str, series: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> dict[str, list[TimedReport]]:
    """The reports on a model, of each router, in order: from the named numbers, each as its times
    and values by router. A report of which a number is missing is passed over.
    """
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

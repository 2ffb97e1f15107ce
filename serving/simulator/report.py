"""The report of a run: figures over time and in total, as JSON and for tables and plots."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from serving.simulator.engine import histogram_quantile_s
from serving.simulator.record import Figures, Record
from serving.simulator.replicas import replica_hours
from serving.simulator.result import Result, Sample, Slo

_DIGITS = 6
_MOST_POINTS = 600

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """The figures of a tenant's requests, and the engine time that it was charged for them."""

    requests: Figures
    engine_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a run. `settings` name what was run. Token times are those between any two
    tokens of a stream, over all streams. `samples` are of the replicas."""

    settings: Mapping[str, str]
    gpus: int
    """GPUs of one replica."""
    slo: Slo
    total: Figures
    width_s: int
    windows: Sequence[Figures]
    samples: Sequence[Sample]
    span_s: float
    end_s: float
    token_time_p50_s: float
    token_time_p99_s: float
    preemptions: int
    replicas_first: int
    replicas_most: int
    replicas_mean: float
    started: int
    """Number of replicas that were started after the beginning."""
    stopped: int
    gpu_hours: float
    gpu_hours_so_far: Sequence[tuple[float, float]]
    """Pairs of a time in seconds and the GPU-hours until then."""
    tenants: Mapping[str, TenantFigures]

    @classmethod
    def of(
        cls,
        record: Record,
        result: Result,
        gpus: int,
        settings: Mapping[str, str],
        tenants: Mapping[str, TenantFigures] | None = None,
    ) -> "Report":
        width_s, windows = record.windows()
        histogram = result.itl_histogram()
        hours = replica_hours(result.replicas, result.end_s)
        return cls(
            settings=settings,
            gpus=gpus,
            slo=record.slo,
            total=record.total(),
            width_s=width_s,
            windows=windows,
            samples=_thinned(result.samples),
            span_s=record.span_s,
            end_s=result.end_s,
            token_time_p50_s=histogram_quantile_s(histogram, 0.5),
            token_time_p99_s=histogram_quantile_s(histogram, 0.99),
            preemptions=record.preemptions,
            replicas_first=sum(replica.up_s == 0.0 for replica in result.replicas),
            replicas_most=max((sample.up for sample in result.samples), default=0),
            replicas_mean=hours * 3600 / result.end_s if result.end_s else 0.0,
            started=sum(replica.asked_s > 0 for replica in result.replicas),
            stopped=sum(replica.gone_s is not None for replica in result.replicas),
            gpu_hours=hours * gpus,
            gpu_hours_so_far=_thinned(_gpu_hours_so_far(result.samples, gpus)),
            tenants=tenants or {},
        )

    @property
    def good_per_s(self) -> float:
        return self.total.good / self.span_s if self.span_s else 0.0

    @property
    def gpu_hours_per_million_output_tokens(self) -> float:
        return 1e6 * self.gpu_hours / max(self.total.output_tokens, 1)

    def as_json(self) -> str:
        """The report as JSON text, which is equal for equal runs."""
        facts = asdict(self) | {
            "settings": dict(self.settings),
            "good_share": self.total.good_share,
            "good_per_s": self.good_per_s,
            "gpu_hours_per_million_output_tokens": self.gpu_hours_per_million_output_tokens,
        }
        return json.dumps(_rounded(facts), indent=1) + "\n"


def _gpu_hours_so_far(samples: Iterable[Sample], gpus: int) -> list[tuple[float, float]]:
    points = []
    used, before_s, held = 0.0, 0.0, 0
    for sample in samples:
        used += held * gpus * (sample.at_s - before_s) / 3600
        before_s, held = sample.at_s, sample.up + sample.starting + sample.draining
        points.append((sample.at_s, used))
    return points


def _thinned(points: Sequence[T]) -> Sequence[T]:
    """Drops points at equal distances, so that a plot can show the rest."""
    return points[:: max(1, math.ceil(len(points) / _MOST_POINTS))]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value

"""The figures of a report as rows of text."""

from collections.abc import Iterator, Sequence

from serving.simulator.report import Report


def rows(report: Report) -> list[tuple[str, str]]:
    """The names and values of the figures."""
    total, slo = report.total, report.slo
    replicas = f"{report.replicas_mean:.1f} on average, {report.replicas_most} at most"
    return [
        ("requests", f"{total.requests:,} in {report.span_s:,.0f} s"),
        (
            "good",
            f"{total.good_share:.2%}, {report.good_per_s:.2f}/s: first token within {slo.ttft_s:g} "
            f"s, {1000 * slo.itl_s:g} ms between tokens",
        ),
        ("refused", f"{total.refused:,} ({total.refused / max(total.requests, 1):.2%})"),
        (
            "TTFT p50, p90, p99",
            _several((total.ttft_p50_s, total.ttft_p90_s, total.ttft_p99_s), "s"),
        ),
        (
            "ITL of answers p50, p90, p99",
            _several((total.itl_p50_s, total.itl_p90_s, total.itl_p99_s), "ms"),
        ),
        (
            "ITL of tokens p50, p99",
            f"{1000 * report.token_time_p50_s:.1f} ms, {1000 * report.token_time_p99_s:.1f} ms",
        ),
        ("prompt tokens cached", f"{total.hit_rate:.1%} of {total.prompt_tokens:,}"),
        ("output tokens", f"{total.output_tokens:,}"),
        ("preemptions", f"{report.preemptions:,}"),
        ("replicas", replicas),
        ("replicas started, stopped", f"{report.started}, {report.stopped}"),
        ("GPU-hours", f"{report.gpu_hours:.3f}"),
        (
            "GPU-hours per million output tokens",
            f"{report.gpu_hours_per_million_output_tokens:.3f}",
        ),
        *_tenants(report),
    ]


def _tenants(report: Report) -> Iterator[tuple[str, str]]:
    engine_s = sum(tenant.engine_s for tenant in report.tenants.values())
    for name, tenant in report.tenants.items():
        figures = tenant.requests
        yield (
            f"tenant {name}",
            f"{figures.requests:,} requests, {figures.refused:,} refused, TTFT p50, p99 "
            f"{_several((figures.ttft_p50_s, figures.ttft_p99_s), 's')}, "
            f"{tenant.engine_s / max(engine_s, 1e-9):.1%} of the engine time",
        )


def _several(values: Sequence[float | None], unit: str) -> str:
    factor, digits = (1000, 1) if unit == "ms" else (1, 3)
    return ", ".join(
        "-" if value is None else f"{factor * value:.{digits}f} {unit}" for value in values
    )

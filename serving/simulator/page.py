"""Renders a report as a self-contained HTML page."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader

from serving.simulator.plot import Series, line_plot
from serving.simulator.record import Figures
from serving.simulator.report import Report
from serving.simulator.rows import rows


def page(report: Report) -> str:
    """The page as HTML. Equal reports give equal pages."""
    loader = PackageLoader("serving.simulator", "")
    template = Environment(loader=loader, autoescape=True).get_template("page.html")
    tables = [("Run", list(report.settings.items())), ("Result", rows(report))]
    return template.render(tables=tables, plots=_plots(report)) + "\n"


def _plots(report: Report) -> list[str]:
    samples, width_s = report.samples, report.width_s

    def in_time(name: str, figure: Callable[[Figures], float | None]) -> Series:
        """One point per window, in its middle."""
        points = [
            ((number + 0.5) * width_s, figure(window) if window.requests else None)
            for number, window in enumerate(report.windows)
        ]
        return Series(name, points)

    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else 1000 * seconds

    slo = report.slo
    return [
        line_plot(
            "Replicas, and demand for them",
            [
                Series("up", [(s.at_s, s.up) for s in samples], steps=True),
                Series("demand", [(s.at_s, s.demand) for s in samples]),
                Series("starting", [(s.at_s, s.starting) for s in samples], steps=True),
                Series("draining", [(s.at_s, s.draining) for s in samples], steps=True),
            ],
        ),
        line_plot(
            "Requests a second",
            [
                in_time("sent", lambda w: w.requests / width_s),
                in_time("refused", lambda w: w.refused / width_s),
                in_time("good", lambda w: w.good / width_s),
            ],
        ),
        line_plot(
            "Time to first token",
            [in_time("p50", lambda w: w.ttft_p50_s), in_time("p99", lambda w: w.ttft_p99_s)],
            unit=" s",
            limit=slo.ttft_s,
        ),
        line_plot(
            "Mean time between the tokens of an answer",
            [
                in_time("p50", lambda w: ms(w.itl_p50_s)),
                in_time("p99", lambda w: ms(w.itl_p99_s)),
            ],
            unit=" ms",
            limit=1000 * slo.itl_s,
        ),
        line_plot(
            "Share of requests within both limits",
            [in_time("good", lambda w: 100 * w.good_share)],
            unit=" %",
        ),
        line_plot(
            "Share of prompt tokens that were cached",
            [in_time("hits", lambda w: 100 * w.hit_rate)],
            unit=" %",
        ),
        line_plot("GPU-hours", [Series("so far", report.gpu_hours_so_far)]),
        line_plot(
            "Requests that wait for a replica",
            [Series("waiting", [(s.at_s, s.waiting) for s in samples])],
        ),
    ]

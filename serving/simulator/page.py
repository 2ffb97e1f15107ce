"""A report as an HTML page that needs no other file."""

from collections.abc import Callable
from html import escape

from serving.simulator.plot import Series, line_plot
from serving.simulator.record import Figures
from serving.simulator.report import Report
from serving.simulator.rows import rows

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem;
  color: #111827; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td { padding: .15rem 1.5rem .15rem 0 }
td + td { font-variant-numeric: tabular-nums }
.columns { display: flex; flex-wrap: wrap; gap: 1rem 4rem }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1.5rem }
svg { width: 100%; height: auto } svg text { font-size: 12px; fill: #4b5563 }
svg text.title { font-weight: 600; fill: #111827 } svg text.legend { fill: inherit }
svg .y, svg .legend { text-anchor: end } svg .x { text-anchor: middle }
svg line { stroke: #e5e7eb } svg line.limit { stroke: #9ca3af; stroke-dasharray: 4 3 }
svg path { fill: none; stroke-width: 1.6; stroke-linecap: round }
"""


def page(report: Report) -> str:
    settings = _table([(name, value) for name, value in report.settings.items()])
    plots = "\n".join(f"<div>{plot}</div>" for plot in _plots(report))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Simulated run</title>\n<style>{_STYLE}</style>\n<h1>Simulated run</h1>\n"
        f'<div class="columns">\n<div><h2>Run</h2>{settings}</div>\n'
        f"<div><h2>Result</h2>{_table(rows(report))}</div>\n</div>\n"
        f'<h2>In time</h2>\n<div class="plots">\n{plots}\n</div>\n</html>\n'
    )


def _table(cells: list[tuple[str, str]]) -> str:
    lines = (f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in cells)
    return f"<table>{''.join(lines)}</table>"


def _plots(report: Report) -> list[str]:
    samples, width_s = report.samples, report.width_s

    def in_time(name: str, figure: Callable[[Figures], float | None]) -> Series:
        """Of each window, in its middle."""
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
            "Replicas, and demand in wholly used ones",
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
            "Time between tokens, each answer's mean",
            [
                in_time("p50", lambda w: ms(w.itl_p50_s)),
                in_time("p99", lambda w: ms(w.itl_p99_s)),
            ],
            unit=" ms",
            limit=1000 * slo.itl_s,
        ),
        line_plot(
            "Within both limits, of all that were sent",
            [in_time("good", lambda w: 100 * w.good_share)],
            unit=" %",
        ),
        line_plot(
            "Prompt tokens that were cached",
            [in_time("hits", lambda w: 100 * w.hit_rate)],
            unit=" %",
        ),
        line_plot("GPU-hours", [Series("so far", report.gpu_hours_so_far)]),
        line_plot(
            "Requests that wait for room",
            [Series("waiting", [(s.at_s, s.waiting) for s in samples])],
        ),
    ]

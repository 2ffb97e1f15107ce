from serving.simulator.rows import rows
from tests.simulator.reports import refused, scaled


def test_every_figure_has_a_row() -> None:
    report = scaled()
    shown = dict(rows(report))
    assert shown["requests"].startswith("1,500 in ")
    assert shown["refused"].startswith(f"{report.total.refused:,} (")
    assert shown["replicas started, stopped"] == "1, 0"
    assert shown["GPU-hours"] == f"{report.gpu_hours:.3f}"
    assert shown["TTFT p50, p90, p99"].count(" s") == 3


def test_figures_that_nobody_has_are_dashes() -> None:
    shown = dict(rows(refused()))
    assert shown["TTFT p50, p90, p99"] == "-, -, -"
    assert shown["refused"] == "5 (100.00%)"

from serving.scaling.report import TimedReport, read
from tests.scaling.reports import REPORT, timed


def named(at_s: float, **values: float) -> dict[str, dict[str, list[tuple[float, float]]]]:
    report = timed(at_s, **values).report
    return {name: {"r1": [(at_s, value)]} for name, value in report.named("org/m").items()}


def test_a_report_is_read_as_it_was_named() -> None:
    assert read("org/m", named(5, waiting_requests=3)) == {"r1": [timed(5, waiting_requests=3)]}


def test_other_models_and_numbers_are_not_its() -> None:
    series = named(5) | {"other/m/residence_time_s": {"r1": [(5, 1)]}, "running": {"r1": [(5, 2)]}}
    assert read("org/m", series) == {"r1": [TimedReport(5, REPORT)]}
    assert read("m", series) == {}


def test_an_incomplete_report_is_passed_over() -> None:
    series = named(5)
    for name, by_router in named(7).items():
        if not name.endswith("residence_time_s"):
            series[name]["r1"] += by_router["r1"]
    assert read("org/m", series) == {"r1": [TimedReport(5, REPORT)]}
    del series["org/m/residence_time_s"]
    assert read("org/m", series) == {}

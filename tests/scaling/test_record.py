import logging

import pytest

from serving.scaling import Decision
from serving.scaling.record import Record
from tests.scaling.fleet import observed
from tests.scaling.gauges import Gauges


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="ray.serve")
    logging.getLogger("ray.serve").addHandler(caplog.handler)
    return caplog


def test_metrics_tell_the_decision_and_its_reasons() -> None:
    gauges = Gauges()
    record = Record("m", gauges)
    record.write(2, Decision(4, "kv_cache", 900.0, 250.0, "max_replicas"), observed(2))
    record.write(4, Decision(5, "prefill", 1000.0, 200.0), observed(4, startup_s=80))
    assert gauges.values["mistral_serve_autoscaling_replicas", "m"] == 5
    assert gauges.values["mistral_serve_autoscaling_value", "m", "prefill"] == 1000
    assert gauges.values["mistral_serve_autoscaling_target", "m", "prefill"] == 200
    assert gauges.values["mistral_serve_autoscaling_value", "m", "kv_cache"] == 0
    assert gauges.values["mistral_serve_autoscaling_bound", "m", "max_replicas"] == 0
    assert gauges.values["mistral_serve_autoscaling_startup_seconds", "m"] == 80


def test_the_bound_that_held_is_1() -> None:
    gauges = Gauges()
    Record("m", gauges).write(4, Decision(4, "batch", 9, 3, "recent_need"), observed(4))
    held = [
        key[-1] for key, value in gauges.values.items() if key[0].endswith("bound") and value == 1
    ]
    assert held == ["recent_need"]


def test_a_change_is_logged_with_its_reasons(lines: pytest.LogCaptureFixture) -> None:
    decision = Decision(4, "kv_cache", 900.0, 250.0, "max_replicas")
    Record("org/m", Gauges()).write(2, decision, observed(1, starting=1, waiting_requests=3))
    (line,) = lines.records
    assert line.levelno == logging.INFO
    assert line.getMessage() == (
        "autoscaling org/m: 2 -> 4 replicas: signal kv_cache, value 900, target 250 a replica, "
        "bound max_replicas; up 1, starting 1, draining 0, running 0, waiting 3, startup 60 s"
    )


def test_what_changes_nothing_is_for_debugging(lines: pytest.LogCaptureFixture) -> None:
    Record("m", Gauges()).write(4, Decision(4, "prefill", 1, 1), observed(4))
    assert lines.records[0].levelno == logging.DEBUG

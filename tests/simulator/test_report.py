import json
import xml.etree.ElementTree as ElementTree

import pytest

from serving.placement.fleet import Fleet
from serving.placement.least_cost import LeastCost
from serving.scaling import Decision, Observed
from serving.simulator.gpus import mistral_small
from serving.simulator.page import page
from serving.simulator.record import Record
from serving.simulator.report import Report
from serving.simulator.result import Slo
from serving.simulator.rows import rows
from serving.simulator.simulation import Autoscaling, Simulation
from serving.simulator.workload import shared_prefixes


class OneMore:
    """A second replica after a while."""

    def decide(self, observed: Observed, now_s: float) -> Decision:
        return Decision(1 if now_s < 20 else 2, "prefill", 0.0, 1.0)


def report() -> Report:
    record = Record(Slo())
    simulation = Simulation(
        mistral_small(),
        1,
        lambda: Fleet(LeastCost()),
        max_wait_s=2.0,
        autoscaling=Autoscaling(OneMore(), startup_s=20.0),
        on_end=record.add,
    )
    result = simulation.run(shared_prefixes(1500, 15.0))
    return Report.of(record, result, 2, {"load": "a < b"})


def test_the_sums_agree() -> None:
    made = report()
    total, windows = made.total, made.windows
    assert total.requests == sum(window.requests for window in windows) == 1500
    assert total.good == sum(window.good for window in windows)
    assert total.refused == sum(window.refused for window in windows) > 0
    assert (made.replicas_first, made.replicas_most, made.started, made.stopped) == (1, 2, 1, 0)
    assert made.gpu_hours == pytest.approx(2 * (2 * made.end_s - 20) / 3600)
    last_s, used = made.gpu_hours_so_far[-1]
    assert used == pytest.approx(2 * (2 * last_s - 20) / 3600, rel=0.1)
    assert 1 < made.replicas_mean < 2


def test_the_same_run_gives_the_same_bytes() -> None:
    first, second = report(), report()
    assert first.as_json() == second.as_json()
    assert page(first) == page(second)
    assert rows(first) == rows(second)


def test_json_has_every_figure() -> None:
    made = report()
    read = json.loads(made.as_json())
    assert read["settings"] == {"load": "a < b"}
    assert read["total"]["requests"] == 1500
    assert read["good_share"] == pytest.approx(made.total.good_share, abs=1e-6)
    assert len(read["windows"]) == len(made.windows)
    assert {"at_s", "up", "starting", "draining", "demand", "waiting"} == set(read["samples"][0])


def test_the_page_stands_alone() -> None:
    text = page(report())
    assert "a &lt; b" in text
    for outside in ("http://", "https://", "src=", "href=", "<script"):
        assert outside not in text
    plots = [f"<svg{part.split('</svg>')[0]}</svg>" for part in text.split("<svg")[1:]]
    assert len(plots) == 8
    for plot in plots:
        assert any(path.get("d") for path in ElementTree.fromstring(plot).iter("path"))


def test_figures_that_nobody_has_are_dashes() -> None:
    record = Record(Slo())
    simulation = Simulation(
        mistral_small(), 0, lambda: Fleet(LeastCost()), max_wait_s=1.0, on_end=record.add
    )
    made = Report.of(record, simulation.run(shared_prefixes(5, 10.0)), 2, {})
    assert dict(rows(made))["TTFT p50, p90, p99"] == "-, -, -"
    assert dict(rows(made))["refused"] == "5 (100.00%)"
    assert "NaN" not in made.as_json()

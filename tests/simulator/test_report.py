import json

import pytest

from tests.simulator.reports import refused, scaled


def test_the_sums_agree() -> None:
    made = scaled()
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
    assert scaled().as_json() == scaled().as_json()


def test_json_has_every_figure() -> None:
    made = scaled()
    read = json.loads(made.as_json())
    assert read["settings"] == {"load": "a < b"}
    assert read["total"]["requests"] == 1500
    assert read["good_share"] == pytest.approx(made.total.good_share, abs=1e-6)
    assert len(read["windows"]) == len(made.windows)
    assert {"at_s", "up", "starting", "draining", "demand", "waiting"} == set(read["samples"][0])


def test_what_nobody_has_is_null() -> None:
    text = refused().as_json()
    assert json.loads(text)["total"]["ttft_p50_s"] is None
    assert "NaN" not in text and "Infinity" not in text

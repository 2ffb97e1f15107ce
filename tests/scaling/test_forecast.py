import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scaling.forecast import Forecast, forecast_level, forecast_rate
from serving.scaling.history import History

HORIZON_S = WINDOW_S = 60.0
SLOT_S = 5.0


def flow(values: Iterable[float], horizon_s: float = HORIZON_S) -> Forecast:
    forecast = forecast_rate(history(values), horizon_s)
    assert forecast is not None
    return forecast


def history(values: Iterable[float]) -> History:
    history = History()
    history.add(0.0, 0.0, WINDOW_S)
    for i, value in enumerate(values, 1):
        history.add(value, i * SLOT_S, WINDOW_S)
    return history


def test_nothing_is_known_at_first() -> None:
    assert forecast_rate(history([]), HORIZON_S) is None
    assert forecast_rate(history([1, 1, 1, 1]), HORIZON_S) is None
    assert forecast_level(history([]), 10, 0.2, 1.0) == 0


def test_what_stays_as_it_is_will_be_so() -> None:
    assert flow([5] * 12) == Forecast(5, 1)
    assert flow([4, 6] * 6) == Forecast(5, 1)


def test_a_step_is_seen_at_once_and_is_no_trend() -> None:
    for length in range(1, 12):
        assert flow([1] * 12 + [11] * length).demand <= 11
    assert flow([1] * 12 + [11] * 2).demand > 4
    assert flow([1] * 12 + [11] * 4).demand > 6


def test_a_ramp_goes_on_for_the_horizon() -> None:
    ramp = [10 * i for i in range(1, 13)]
    assert flow(ramp).demand == pytest.approx(65 + 120, rel=0.15)
    assert flow(ramp, horizon_s=30).demand < flow(ramp).demand
    assert flow(ramp).growth == pytest.approx(2, rel=0.1)


def test_a_fall_is_no_trend_and_is_believed_after_a_window() -> None:
    falling = flow([100] * 12 + [10] * 3)
    assert falling.growth == 1
    assert falling.demand > 70
    assert flow([100] * 12 + [10] * 13).demand == pytest.approx(10)


def test_chance_is_hardly_ever_taken_for_more() -> None:
    rng = random.Random(1)
    above = 0
    for _ in range(500):
        forecast = flow([rng.gauss(100, 20) for _ in range(13)])
        above += forecast.demand > 115
        assert forecast.demand > 75
    assert above < 25


def test_the_newest_of_a_stock_is_believed_beyond_what_its_requests_vary_by() -> None:
    grown = history([40] * 12 + [80])
    assert forecast_level(grown, 900, 0.2, 1.0) == pytest.approx(72)
    assert forecast_level(grown, 1_000_000, 0.2, 1.0) == pytest.approx(80, rel=0.01)
    # Few of them: the headroom covers that.
    assert forecast_level(grown, 4, 0.2, 1.0) == pytest.approx(64)
    assert forecast_level(history([80] * 13), 4, 0.2, 1.0) == pytest.approx(80)


def test_a_stock_grows_as_its_requests_do() -> None:
    assert forecast_level(history([80] * 13), 4, 0.2, 1.5) == pytest.approx(120)
    # A queue that formed, or replicas that joined, are no growth.
    assert forecast_level(history([10.0 * i for i in range(13)]), 1e9, 0.2, 1.0) == pytest.approx(
        120, rel=0.01
    )


@given(
    st.lists(st.floats(0, 1e6), min_size=5, max_size=30),
    st.floats(1, 100),
)
def test_twice_the_load_is_twice_the_forecast(values: list[float], times: float) -> None:
    one, more = flow(values), flow([times * value for value in values])
    assert more.demand == pytest.approx(times * one.demand, rel=1e-6, abs=1e-3)

import pytest

from serving.dispatch.arrival_rate import ArrivalRate


def test_it_is_what_comes_in_above_a_priority() -> None:
    rate = ArrivalRate(0)
    for second in range(1, 301):
        rate.add(7, 0.2, second)
        rate.add(4, 0.1, second)
    assert rate.above_per_s(8, 300) == 0
    assert rate.above_per_s(7, 300) == 0
    assert rate.above_per_s(6, 300) == pytest.approx(0.2, rel=0.05)
    assert rate.above_per_s(0, 300) == pytest.approx(0.3, rel=0.05)


def test_it_ends_when_nothing_comes_any_more() -> None:
    rate = ArrivalRate(0)
    rate.add(7, 3.0, 1)
    assert rate.above_per_s(0, 2) < 0.11
    assert rate.above_per_s(0, 200) < 0.001

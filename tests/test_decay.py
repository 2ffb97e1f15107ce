import math

import pytest

from serving.decay import DecayingSum, kept


def test_what_is_kept_halves_in_equal_times() -> None:
    assert kept(0.0, 10.0) == 1.0
    assert kept(10 * math.log(2), 10.0) == pytest.approx(0.5)
    assert kept(20 * math.log(2), 10.0) == pytest.approx(0.25)


def test_a_constant_rate_becomes_the_rate_times_the_time_constant() -> None:
    total = DecayingSum(20.0)
    for tenth in range(5000):
        total.add(0.3, tenth / 10)
    assert total.at(500.0) == pytest.approx(3.0 * 20.0, rel=0.01)
    assert total.at(520.0) == pytest.approx(total.at(500.0) / math.e)

import pytest

from serving.admission.flow import Flow


def test_it_is_what_comes_in_above_a_priority() -> None:
    flow = Flow(10, now_s=0)
    for second in range(1, 301):
        flow.add(7, 0.2, second)
        flow.add(4, 0.1, second)
    assert flow.above_per_s(8, 300) == 0
    assert flow.above_per_s(7, 300) == 0
    assert flow.above_per_s(6, 300) == pytest.approx(0.2, rel=0.05)
    assert flow.above_per_s(0, 300) == pytest.approx(0.3, rel=0.05)


def test_it_ends_when_nothing_comes_any_more() -> None:
    flow = Flow(10, now_s=0)
    flow.add(7, 3.0, 1)
    assert flow.above_per_s(0, 2) < 0.11
    assert flow.above_per_s(0, 200) < 0.001

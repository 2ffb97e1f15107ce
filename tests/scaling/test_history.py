import pytest

from serving.scaling.history import SLOTS, History


def history(values: list[float], period_s: float = 5.0, window_s: float = 60.0) -> History:
    history = History()
    history.add(float("nan"), 0.0, window_s)
    for i, value in enumerate(values, 1):
        history.add(value, i * period_s, window_s)
    return history


def test_the_first_value_is_of_no_known_time() -> None:
    assert not history([]).slots
    assert history([]).mean == 0


def test_values_are_weighed_by_their_time() -> None:
    one = History()
    for value, now_s in [(0.0, 0.0), (1.0, 1.0), (4.0, 3.0)]:
        one.add(value, now_s, 60)
    assert one.mean == 3
    assert one.span_s == 3


def test_slots_are_a_part_of_the_window_and_older_ones_are_forgotten() -> None:
    of_seconds = history([float(i) for i in range(300)], period_s=1)
    assert len(of_seconds.slots) in (SLOTS, SLOTS + 1)
    assert of_seconds.span_s == pytest.approx(60, abs=5)
    assert of_seconds.mean == pytest.approx(269, abs=3)


def test_rare_values_have_a_slot_each() -> None:
    assert [slot.mean for slot in history([1, 2, 3], period_s=20).slots] == [1, 2, 3]


def test_recent_means_begin_with_the_newest_slot() -> None:
    assert list(history([1, 2, 6]).recent()) == [(6, 5), (4, 10), (3, 15)]


def test_time_that_stands_still_counts_nothing() -> None:
    one = history([1.0])
    one.add(100.0, 5.0, 60)
    assert one.mean == 1

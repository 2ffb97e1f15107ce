from serving.dispatch.sliding_window import SlidingWindow


def minute() -> SlidingWindow:
    return SlidingWindow(60, 120)


def test_an_amount_counts_for_a_minute_and_half_a_second_at_most() -> None:
    window = minute()
    window.add(3, 10.2, 10.2)
    assert [window.total(now_s) for now_s in (10.2, 70.2, 70.5)] == [3, 3, 0]


def test_what_is_taken_back_leaves_with_what_was_added() -> None:
    window = minute()
    window.add(100, 10, 10)
    window.add(5, 30, 30)
    window.add(-60, 10, 40)
    assert window.total(40) == 45
    assert window.total(70.5) == 5
    window.add(-40, 10, 71)
    assert window.total(71) == 5, "it has left already"


def test_it_is_told_when_enough_has_left() -> None:
    window = minute()
    for at_s in (0, 10, 20):
        window.add(10, at_s, at_s)
    assert [window.frees_in_s(amount, 30) for amount in (1, 11, 30)] == [30.5, 40.5, 50.5]
    assert [window.total(30 + in_s) for in_s in (30.5, 40.5, 50.5)] == [20, 10, 0]


def test_it_is_told_when_all_has_left() -> None:
    window = minute()
    assert window.empties_in_s(0) == 0
    for at_s in (0, 10, 20):
        window.add(10, at_s, at_s)
    assert window.empties_in_s(30) == window.frees_in_s(30, 30) == 50.5
    window.add(-10, 20, 30)
    assert window.empties_in_s(30) == 40.5


def test_its_amounts_can_be_counted_elsewhere_by_their_age() -> None:
    window, other = minute(), minute()
    for at_s in (0, 10.25, 20):
        window.add(int(10 + at_s), at_s, at_s)
    for ago_s, amount in window.amounts(30):
        other.add(amount, 1000 - ago_s, 1000)
    assert other.total(1000) == window.total(30) == 60
    assert other.total(1031) == window.total(61) == 50

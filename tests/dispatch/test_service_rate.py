import pytest

from serving.dispatch.service_rate import ServiceRate


def run(
    rate: ServiceRate, *, share: float, residence_time_s: float, at_once: int, until_s: float
) -> None:
    """Keeps `at_once` requests running; each is replaced as it ends."""
    ends = [residence_time_s * (i + 1) / at_once for i in range(at_once)]
    for _ in ends:
        rate.book(share, 0)
    while (end_s := min(ends)) < until_s:
        ends.remove(end_s)
        rate.release(share, True, end_s)
        rate.book(share, end_s)
        ends.append(end_s + residence_time_s)


def test_at_the_start_it_is_the_first_guess() -> None:
    rate = ServiceRate(0, 20)
    assert rate.per_s == pytest.approx(1 / 20)
    rate.set_capacity(8, 0)
    assert rate.per_s == pytest.approx(8 / 20)


def test_it_becomes_the_rate_at_which_a_full_fleet_is_left() -> None:
    rate = ServiceRate(0, 20)
    rate.set_capacity(4, 0)
    rate.is_full = True
    run(rate, share=0.1, residence_time_s=5, at_once=40, until_s=60)
    assert rate.per_s == pytest.approx(4 / 5, rel=0.15)


def test_it_is_learnt_at_a_low_load_too() -> None:
    rate = ServiceRate(0, 20)
    rate.set_capacity(4, 0)
    run(rate, share=0.1, residence_time_s=5, at_once=4, until_s=400)
    assert rate.per_s == pytest.approx(4 / 5, rel=0.15)


def test_idle_time_does_not_change_it() -> None:
    rate = ServiceRate(0, 20)
    run(rate, share=0.5, residence_time_s=5, at_once=2, until_s=60)
    rate.release(0.5, True, 60)
    rate.release(0.5, True, 60)
    before = rate.per_s
    rate.book(0.5, 1_000_000)
    assert rate.per_s == before


def test_it_follows_the_number_of_replicas_at_once() -> None:
    rate = ServiceRate(0, 20)
    before = rate.per_s
    rate.set_capacity(3, 0)
    assert rate.per_s == pytest.approx(3 * before)


def test_a_burst_of_ends_is_no_higher_rate() -> None:
    """Requests that end together also began together."""
    rate = ServiceRate(0, 10)
    rate.is_full = True
    for batch in range(12):
        for _ in range(10):
            rate.book(0.1, batch * 10)
        for _ in range(10):
            rate.release(0.1, True, batch * 10 + 10)
    assert rate.per_s == pytest.approx(1 / 10, rel=0.1)


def test_failures_do_not_count_as_served() -> None:
    rate = ServiceRate(0, 10)
    for i in range(1000):
        rate.book(0.1, i * 0.01)
        rate.release(0.1, False, i * 0.01 + 0.001)
    assert rate.per_s <= 1 / 10


def test_a_queue_that_does_not_fit_is_served_slower_than_the_capacity() -> None:
    """Requests of 0.6 of a replica leave 0.4 of it unused."""
    rate = ServiceRate(0, 5)
    rate.is_full = True
    run(rate, share=0.6, residence_time_s=5, at_once=1, until_s=300)
    assert rate.per_s == pytest.approx(0.6 / 5, rel=0.1)


def test_requests_that_never_end_leave_a_rate() -> None:
    rate = ServiceRate(0, 20)
    rate.book(1, 0)
    rate.set_capacity(4, 1e6)
    assert rate.per_s > 0

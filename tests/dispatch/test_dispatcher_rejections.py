"""Whom a dispatcher rejects, for which reason, and when they may come back."""

import math

import pytest

from serving.dispatch import Rejection, Request, Reservation, State
from tests.dispatch.setting import STARTUP_S, Setting, held_for_a_large_one, work


def test_one_that_a_replica_is_held_for_waits_no_longer_than_the_bound_either() -> None:
    setting, large = held_for_a_large_one(max_wait_s=30)
    assert setting.dispatcher.next_due_s() == 30
    setting.now_s = 30
    setting.place()
    assert large in setting.expired


def test_a_full_queue_rejects_with_the_time_to_come_back() -> None:
    setting = Setting(max_waiting=5)
    setting.fill()
    for _ in range(5):
        setting.offer()
    rejection = setting.rejected()
    assert rejection.reason == "queue_full"
    assert rejection.retry_after_s is not None and rejection.retry_after_s >= 1


def test_a_queue_that_would_be_too_slow_rejects_before_it_is_full() -> None:
    setting = Setting(max_waiting=10_000, max_wait_s=21)
    setting.fill()
    taken = 0
    while isinstance(outcome := setting.submit(100), Reservation):
        taken += 1
    # A request of a tenth of a replica, 10 s each by the first guess: one a second.
    assert taken == 15  # three quarters of the longest wait
    assert outcome.reason == "wait_too_long"
    assert outcome.wait_s == pytest.approx(16)
    assert outcome.retry_after_s == 12  # waits in the queue for a quarter of the longest wait


def test_in_a_full_queue_the_last_is_displaced_by_a_higher_priority() -> None:
    setting = Setting(max_waiting=2)
    setting.fill()
    first, last = setting.offer(priority=3), setting.offer(priority=3)
    high = setting.offer(priority=4)
    setting.place()
    assert setting.expired == [last]
    assert last.rejection is not None and last.rejection.reason == "queue_full"
    assert first.state is high.state is State.WAITING
    setting.rejected(priority=3)
    assert setting.place() == setting.expired == []


def test_nobody_waits_longer_than_the_bound() -> None:
    setting = Setting(max_wait_s=30)
    setting.fill()
    reservation = setting.offer()
    assert setting.dispatcher.next_due_s() == 30
    setting.now_s = 29.9
    assert setting.place() == setting.expired == []
    setting.now_s = 30
    setting.place()
    assert setting.expired == [reservation]
    assert reservation.rejection is not None
    assert (reservation.rejection.reason, setting.dispatcher.waiting) == ("wait_too_long", 0)
    assert setting.dispatcher.next_due_s() == math.inf


def test_a_deadline_that_cannot_be_met_is_rejected_at_once_with_the_estimate() -> None:
    setting = Setting()
    setting.fill()
    for _ in range(9):
        setting.offer()
    rejection = setting.rejected(timeout_s=8)
    assert rejection.reason == "deadline_unreachable"
    assert rejection.wait_s == pytest.approx(10)
    assert rejection.retry_after_s is not None and 5 <= rejection.retry_after_s <= 10
    setting.offer(timeout_s=12)


def test_time_on_the_replica_counts_to_the_deadline() -> None:
    for service_s in (8, 9):
        setting = Setting(service_s=service_s)
        setting.fill()
        setting.offer()
        outcome = setting.submit(timeout_s=10.5)
        assert isinstance(outcome, Reservation) is (service_s == 8)


def test_a_deadline_too_short_for_any_wait_has_no_time_to_come_back() -> None:
    rejection = Setting(service_s=2).rejected(timeout_s=1)
    assert (rejection.reason, rejection.retry_after_s) == ("deadline_too_short", None)


def test_a_deadline_that_passes_in_the_queue_is_rejected_then() -> None:
    setting = Setting(service_s=2)
    setting.fill()
    reservation = setting.offer(timeout_s=10)
    setting.now_s = 8
    setting.place()
    assert setting.expired == [reservation]
    assert reservation.rejection is not None
    assert reservation.rejection.reason == "deadline_unreachable"


def test_where_there_is_headroom_a_short_deadline_is_no_reason_to_reject() -> None:
    setting = Setting()
    setting.offer(timeout_s=0.5)
    assert len(setting.place()) == 1


def test_without_a_replica_the_bounds_hold_and_the_start_up_counts() -> None:
    setting = Setting(0, max_waiting=2)
    setting.now_s = 20
    setting.offer(), setting.offer()
    rejection = setting.rejected()
    assert rejection.reason == "no_replica"
    assert rejection.retry_after_s is not None and 30 <= rejection.retry_after_s <= 45
    setting.now_s = 20 + 40 + 30
    setting.place()
    assert [one.rejection and one.rejection.reason for one in setting.expired] == ["no_replica"] * 2


def test_a_deadline_before_the_start_up_is_rejected_at_once() -> None:
    rejection = Setting(0).rejected(timeout_s=30)
    assert rejection.reason == "no_replica"
    assert rejection.wait_s >= STARTUP_S


def test_a_start_up_that_is_late_is_not_promised_for_the_next_second_for_ever() -> None:
    setting = Setting(0)
    left = [setting.dispatcher.startup_left_s(now_s) for now_s in (0, 45, 60, 80, 100, 1000)]
    assert left == [60, 15, 1, 20, 40, 60]


def test_when_the_last_replica_goes_the_start_up_begins_anew() -> None:
    setting = Setting(1)
    assert setting.dispatcher.startup_left_s(500) == 0
    setting.now_s = 500
    setting.update([])
    assert setting.dispatcher.startup_left_s(510) == 50


def overloaded(max_wait_s: float = 20) -> tuple[Setting, list[Reservation], Rejection]:
    """Returns a full replica with a full queue, what runs on it, and the rejection of one more
    request."""
    setting = Setting(max_waiting=10_000, max_wait_s=max_wait_s)
    running = setting.fill()
    while isinstance(outcome := setting.submit(100, key=1), Reservation):
        pass
    return setting, running, outcome


def test_a_timely_retry_is_admitted_where_a_new_request_is_not() -> None:
    setting, running, rejection = overloaded()
    for _ in range(200):
        setting.rejected(key=None)
    setting.rejected(key=2)
    assert rejection.retry_after_s is not None
    setting.now_s = rejection.retry_after_s
    for reservation in running:
        setting.end(reservation)
    setting.offer(key=1)


def test_a_retry_that_comes_too_early_gets_the_same_time() -> None:
    setting, _, rejection = overloaded()
    assert rejection.retry_after_s is not None
    setting.now_s = 5
    again = setting.rejected(key=1)
    assert again.retry_after_s == rejection.retry_after_s - 5
    assert len(setting.dispatcher._admission.retries) == 1


def test_each_rejection_has_a_later_retry_time() -> None:
    """Each takes a tenth of a replica, which is a second by the first guess."""
    setting, _, _ = overloaded(max_wait_s=20)
    times = [setting.rejected(key=key).retry_after_s or 0 for key in range(2, 102)]
    assert times == sorted(times)
    assert times[-1] - times[20] == pytest.approx(79, abs=1)


def test_idle_capacity_is_given_to_anyone_whatever_retry_reservations_there_are() -> None:
    setting, running, _ = overloaded()
    for key in range(2, 100):
        setting.rejected(key=key)
    placed = running
    while placed:  # all end, and none comes back
        placed = [reservation for end in placed for reservation in setting.end(end)]
    reservation = setting.offer()
    assert setting.place() == [reservation]


def test_low_priorities_wait_for_what_the_high_ones_leave() -> None:
    """High priorities take half of the capacity, so that the low ones are served half as fast."""
    setting = Setting(max_waiting=10_000, max_wait_s=1000)
    running = setting.fill()
    for second in range(1, 200):
        setting.now_s = second
        if second % 2:
            setting.offer(priority=8)
        else:
            setting.offer(priority=2)
        running += setting.end(running.pop(0))
    queued = setting.dispatcher._queue.share_ahead(0)
    waits_s = setting.dispatcher._admission._waits_s
    low, high = (waits_s(Request(work(100)), p, 0.1, setting.now_s)[0] for p in (2, 8))
    assert queued < 0.2
    assert low == pytest.approx(
        2 * (queued + 0.1) / setting.dispatcher._service_rate.per_s, rel=0.2
    )
    assert high < low


def test_a_client_that_leaves_after_its_rejection_changes_nothing() -> None:
    setting = Setting()
    setting.fill()
    reservation = setting.offer()
    setting.now_s = 30
    setting.place()
    setting.dispatcher.withdraw(reservation, 30)
    assert reservation.state is State.REJECTED

import pytest

from serving.admission import Demand, Refusal, Ticket
from tests.admission.fleet import Load
from tests.admission.setting import STARTUP_S, Replica, Setting, churn


def test_where_there_is_room_nobody_waits() -> None:
    setting = Setting()
    ticket = setting.offer()
    assert setting.place() == [ticket]


def test_a_replica_is_not_loaded_beyond_its_kv_cache() -> None:
    setting = Setting()
    first, second, third = setting.offer(800), setting.offer(201), setting.offer(100)
    assert setting.place() == [first, third]
    assert setting.replicas[0].load.kv_tokens == 900
    assert setting.end(third) == []
    assert setting.end(first) == [second]


def test_a_replica_is_not_loaded_beyond_its_batch() -> None:
    setting = Setting(2)
    for _ in range(25):
        setting.offer(1)
    assert len(setting.place()) == 20
    assert [replica.load.requests for replica in setting.replicas] == [10, 10]


def test_all_replicas_with_room_are_offered() -> None:
    setting = Setting(3)
    setting.replicas[1].load = Load(kv_tokens=950, requests=1)
    setting.offer(100)
    handed = setting.admission.next(0)
    assert handed is not None
    assert handed[1] == [setting.replicas[0], setting.replicas[2]]


def test_a_request_larger_than_a_replica_gets_an_idle_one() -> None:
    setting = Setting()
    (running,) = setting.fill(1)
    large = setting.offer(5000)
    assert setting.place() == []
    assert setting.end(running) == [large]


def test_the_line_is_in_order_of_priority_then_of_arrival() -> None:
    setting = Setting()
    running = setting.fill()
    low, first, second, high = (setting.offer(priority=p) for p in (1, 5, 5, 9))
    order = [setting.end(ticket) for ticket in running[:4]]
    assert order == [[high], [first], [second], [low]]


def test_small_requests_go_past_a_large_one_that_does_not_fit() -> None:
    setting = Setting()
    setting.fill(5)
    large = setting.offer(900)
    small = setting.offer(100)
    assert setting.place() == [small]
    assert not large.gone


def test_a_large_request_is_passed_by_half_its_size_and_then_no_more() -> None:
    setting = Setting(max_waiting=1000, max_wait_s=10_000)
    running = setting.fill(10)
    large = setting.offer(900)
    placed = [churn(setting, running) for _ in range(14)]
    assert [len(each) for each in placed] == [1] * 5 + [0] * 8 + [1]
    assert placed[-1] == [large]


def test_the_other_replicas_go_on_while_one_is_kept_for_a_large_request() -> None:
    setting = Setting(2, max_waiting=1000, max_wait_s=10_000)
    running = setting.fill(20)
    large, second_large = setting.offer(900), setting.offer(900)
    loads = []
    while large not in setting.where:
        churn(setting, running)
        loads.append(sorted(replica.load.kv_tokens for replica in setting.replicas))
    assert loads[-1] == [1000, 1000]
    assert min(loads)[0] == 200, "the one was emptied"
    assert min(other for _, other in loads) == 1000, "the other was not"
    while second_large not in setting.where:
        churn(setting, running)


def test_one_that_a_replica_was_kept_for_stands_first_when_that_is_gone() -> None:
    setting = Setting(max_wait_s=10_000)
    running = setting.fill(10)
    large = setting.offer(900)
    for _ in range(8):
        churn(setting, running)
    fresh = Replica()
    setting.admission.update([fresh], None, 0)
    assert setting.place()[0] is large
    assert setting.where[large] is fresh
    assert large not in setting.place()


def test_a_waiting_client_that_leaves_frees_its_place() -> None:
    setting = Setting(max_waiting=3)
    running = setting.fill()
    first, middle, last = (setting.offer() for _ in range(3))
    setting.refused()
    setting.admission.withdraw(middle)
    newest = setting.offer()
    setting.admission.withdraw(first)
    assert setting.end(running[0]) == [last]
    assert setting.end(running[1]) == [newest]


def test_a_large_one_that_leaves_gives_up_the_replica_kept_for_it() -> None:
    setting = Setting(max_wait_s=10_000)
    running = setting.fill(10)
    large = setting.offer(900)
    for _ in range(8):
        churn(setting, running)
    assert setting.replicas[0].load.requests == 7
    setting.admission.withdraw(large)
    assert len(setting.place()) == 3


def test_one_that_a_replica_is_kept_for_waits_no_longer_than_the_bound_either() -> None:
    setting = Setting(max_wait_s=30)
    running = setting.fill(10)
    large = setting.offer(900)
    for _ in range(8):
        churn(setting, running)
    assert setting.admission.next_expiry_s() == 30
    setting.now_s = 30
    assert large in [ticket for ticket, _ in setting.dismissed()]


def test_a_full_line_refuses_with_the_time_to_come_back() -> None:
    setting = Setting(max_waiting=5)
    setting.fill()
    for _ in range(5):
        setting.offer()
    refusal = setting.refused()
    assert refusal.reason == "queue_full"
    assert refusal.retry_after_s is not None and refusal.retry_after_s >= 1


def test_a_line_that_would_be_too_slow_refuses_before_it_is_full() -> None:
    setting = Setting(max_waiting=10_000, max_wait_s=21)
    setting.fill()
    taken = 0
    while isinstance(outcome := setting.admission.offer(Demand(100), 0), Ticket):
        taken += 1
    # A request of a tenth of a replica, 10 s each by the first guess: one a second.
    assert taken == 15  # three quarters of the longest wait
    assert outcome.reason == "wait_too_long"
    assert outcome.wait_s == pytest.approx(16)
    assert outcome.retry_after_s == 12  # to stand in the line for a quarter of the wait


def test_in_a_full_line_the_last_makes_place_for_a_higher_priority() -> None:
    setting = Setting(max_waiting=2)
    setting.fill()
    first, last = setting.offer(priority=3), setting.offer(priority=3)
    high = setting.offer(priority=4)
    ((ticket, refusal),) = setting.dismissed()
    assert ticket is last and refusal.reason == "queue_full"
    assert not first.gone and not high.gone
    setting.refused(priority=3)
    assert setting.dismissed() == []


def test_nobody_waits_longer_than_the_bound() -> None:
    setting = Setting(max_wait_s=30)
    setting.fill()
    ticket = setting.offer()
    assert setting.admission.next_expiry_s() == 30
    setting.now_s = 29.9
    assert setting.dismissed() == []
    setting.now_s = 30
    ((gone, refusal),) = setting.dismissed()
    assert gone is ticket
    assert (refusal.reason, len(setting.admission.line)) == ("wait_too_long", 0)
    assert setting.admission.next_expiry_s() is None


def test_a_deadline_that_cannot_be_met_is_told_at_once_with_the_estimate() -> None:
    setting = Setting()
    setting.fill()
    for _ in range(9):
        setting.offer()
    refusal = setting.refused(timeout_s=8)
    assert refusal.reason == "deadline_unreachable"
    assert refusal.wait_s == pytest.approx(10)
    assert refusal.retry_after_s is not None and 5 <= refusal.retry_after_s <= 10
    setting.offer(timeout_s=12)


def test_time_on_the_replica_counts_to_the_deadline() -> None:
    setting = Setting()
    setting.fill()
    setting.offer(timeout_s=10, service_s=8)
    setting.refused(timeout_s=10, service_s=9)


def test_a_deadline_too_short_for_any_wait_has_no_time_to_come_back() -> None:
    refusal = Setting().refused(timeout_s=1, service_s=2)
    assert (refusal.reason, refusal.retry_after_s) == ("deadline_too_short", None)


def test_a_deadline_that_passes_in_the_line_is_told_then() -> None:
    setting = Setting()
    setting.fill()
    ticket = setting.offer(timeout_s=10, service_s=2)
    setting.now_s = 8
    ((gone, refusal),) = setting.dismissed()
    assert gone is ticket and refusal.reason == "deadline_unreachable"


def test_where_there_is_room_a_short_deadline_is_no_reason_to_refuse() -> None:
    setting = Setting()
    setting.offer(timeout_s=0.5)
    assert len(setting.place()) == 1


def test_without_a_replica_requests_wait_for_the_first() -> None:
    setting = Setting(0)
    tickets = [setting.offer() for _ in range(3)]
    assert setting.place() == []
    setting.now_s = 50
    assert setting.dismissed() == []
    setting.admission.update([Replica()], None, 50)
    assert setting.place() == tickets


def test_without_a_replica_the_bounds_hold_and_the_start_up_is_told() -> None:
    setting = Setting(0, max_waiting=2)
    setting.now_s = 20
    setting.offer(), setting.offer()
    refusal = setting.refused()
    assert refusal.reason == "no_replica"
    assert refusal.retry_after_s is not None and 30 <= refusal.retry_after_s <= 45
    setting.now_s = 20 + 40 + 30
    assert [refusal.reason for _, refusal in setting.dismissed()] == ["no_replica"] * 2


def test_a_deadline_before_the_start_up_is_told_at_once() -> None:
    refusal = Setting(0).refused(timeout_s=30)
    assert refusal.reason == "no_replica"
    assert refusal.wait_s >= STARTUP_S


def test_a_start_up_that_is_late_is_not_promised_for_the_next_second_for_ever() -> None:
    setting = Setting(0)
    left = [setting.admission.startup_left_s(now_s) for now_s in (0, 45, 60, 80, 100, 1000)]
    assert left == [60, 15, 1, 20, 40, 60]


def test_when_the_last_replica_goes_the_start_up_begins_anew() -> None:
    setting = Setting(1)
    assert setting.admission.startup_left_s(500) == 0
    setting.admission.update([], None, 500)
    assert setting.admission.startup_left_s(510) == 50


def overloaded(max_wait_s: float = 20) -> tuple[Setting, list[Ticket], Refusal]:
    """A full replica, a full line, and one that was told to come back."""
    setting = Setting(max_waiting=10_000, max_wait_s=max_wait_s)
    running = setting.fill()
    while isinstance(outcome := setting.admission.offer(Demand(100, key=1), 0), Ticket):
        pass
    return setting, running, outcome


def test_who_comes_back_when_told_is_let_in_where_a_new_one_is_not() -> None:
    setting, running, refusal = overloaded()
    for _ in range(200):
        setting.refused(key=None)
    setting.refused(key=2)
    assert refusal.retry_after_s is not None
    setting.now_s = refusal.retry_after_s
    for ticket in running:
        setting.end(ticket)
    setting.offer(key=1)


def test_who_comes_back_too_early_is_told_the_same_time() -> None:
    setting, _, refusal = overloaded()
    assert refusal.retry_after_s is not None
    setting.now_s = 5
    again = setting.refused(key=1)
    assert again.retry_after_s == refusal.retry_after_s - 5
    assert len(setting.admission.promises) == 1


def test_those_refused_are_told_later_and_later_times() -> None:
    """Each takes a tenth of a replica, which is a second by the first guess."""
    setting, _, _ = overloaded(max_wait_s=20)
    times = [setting.refused(key=key).retry_after_s or 0 for key in range(2, 102)]
    assert times == sorted(times)
    assert times[-1] - times[20] == pytest.approx(79, abs=1)


def test_what_stands_idle_is_given_to_anyone_whatever_was_promised() -> None:
    setting, running, _ = overloaded()
    for key in range(2, 100):
        setting.refused(key=key)
    placed = running
    while placed:  # all end, and nobody comes back
        placed = [ticket for end in placed for ticket in setting.end(end)]
    ticket = setting.offer()
    assert setting.place() == [ticket]


def test_low_priorities_wait_for_what_the_high_ones_leave() -> None:
    """High ones take half of the capacity, so that the low ones' line drains half as fast."""
    setting = Setting(max_waiting=10_000, max_wait_s=1000)
    running = setting.fill()
    for second in range(1, 200):
        setting.now_s = second
        if second % 2:
            setting.offer(priority=8)
        else:
            setting.offer(priority=2)
        running += setting.end(running.pop(0))
    line = sum(setting.admission.line.shares)
    low, high = (setting.admission._waits_s(p, 0.1, setting.now_s)[0] for p in (2, 8))
    assert line < 0.2
    assert low == pytest.approx(2 * (line + 0.1) / setting.admission.drain.per_s, rel=0.2)
    assert high < low


def test_a_router_does_not_go_beyond_its_allotment() -> None:
    setting = Setting(2)
    setting.admission.update(setting.replicas, 0.5, 0)
    for _ in range(10):
        setting.offer()
    assert len(setting.place()) == 5


def test_a_request_larger_than_the_allotment_gets_in_alone() -> None:
    setting = Setting(2)
    setting.admission.update(setting.replicas, 0.5, 0)
    large, small = setting.offer(800), setting.offer(100)
    assert setting.place() == [large]
    assert setting.end(large) == [small]

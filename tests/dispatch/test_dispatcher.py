"""Which replica a dispatcher gives a request, and when."""

import pytest

from serving.dispatch import Dispatcher, Outcome, Request, Reservation, State
from serving.dispatch.messages import RouterDemand
from tests.dispatch.setting import CAPACITY, Chosen, Setting, churn, held_for_a_large_one, work


def test_a_replica_is_not_loaded_beyond_its_kv_cache() -> None:
    setting = Setting()
    first, second, third = setting.offer(800), setting.offer(201), setting.offer(100)
    assert setting.place() == [first, third]
    assert setting.load().kv_tokens == 900
    assert setting.end(third) == []
    assert setting.end(first) == [second]


def test_a_replica_is_not_loaded_beyond_its_batch() -> None:
    setting = Setting(2)
    for _ in range(25):
        setting.offer(1)
    assert len(setting.place()) == 20
    assert [setting.load(i).requests for i in range(2)] == [10, 10]


def test_all_replicas_with_headroom_are_offered() -> None:
    setting = Setting(3)
    setting.book(1, 950)
    setting.offer(100)
    assert setting.policy.seen == [["replica-0", "replica-2"]]


def test_a_request_larger_than_a_replica_gets_an_idle_one() -> None:
    setting = Setting()
    (running,) = setting.fill(1)
    large = setting.offer(5000)
    assert setting.place() == []
    assert setting.end(running) == [large]


def test_the_queue_is_in_order_of_priority_then_of_arrival() -> None:
    setting = Setting()
    running = setting.fill()
    low, first, second, high = (setting.offer(priority=p) for p in (1, 5, 5, 9))
    order = [setting.end(reservation) for reservation in running[:4]]
    assert order == [[high], [first], [second], [low]]


def test_small_requests_go_past_a_large_one_that_does_not_fit() -> None:
    setting = Setting()
    setting.fill(5)
    large = setting.offer(900)
    small = setting.offer(100)
    assert setting.place() == [small]
    assert large.state is State.WAITING


def test_a_large_request_is_passed_by_half_its_size_and_then_no_more() -> None:
    setting = Setting(max_waiting=1000, max_wait_s=10_000)
    running = setting.fill(10)
    large = setting.offer(900)
    placed = [churn(setting, running) for _ in range(14)]
    assert [len(each) for each in placed] == [1] * 5 + [0] * 8 + [1]
    assert placed[-1] == [large]


def test_the_other_replicas_go_on_while_one_is_held_for_a_large_request() -> None:
    setting = Setting(2, max_waiting=1000, max_wait_s=10_000)
    running = setting.fill(20)
    large, second_large = setting.offer(900), setting.offer(900)
    loads = []
    while large.state is State.WAITING:
        churn(setting, running)
        loads.append(sorted(setting.load(i).kv_tokens for i in range(2)))
    assert loads[-1] == [1000, 1000]
    assert min(loads)[0] == 200, "the one was emptied"
    assert min(other for _, other in loads) == 1000, "the other was not"
    while second_large.state is State.WAITING:
        churn(setting, running)


def test_one_that_a_replica_was_held_for_stands_first_when_that_is_gone() -> None:
    setting, large = held_for_a_large_one()
    setting.update(["fresh"])
    assert setting.place()[0] is large
    assert large.replica_id == "fresh"
    assert large not in setting.place()


def test_a_waiting_client_that_leaves_frees_its_reservation() -> None:
    setting = Setting(max_waiting=3)
    running = setting.fill()
    first, middle, last = (setting.offer() for _ in range(3))
    setting.rejected()
    setting.dispatcher.withdraw(middle, 0)
    newest = setting.offer()
    setting.dispatcher.withdraw(first, 0)
    assert setting.end(running[0]) == [last]
    assert setting.end(running[1]) == [newest]


def test_a_large_one_that_leaves_releases_the_replica_held_for_it() -> None:
    setting, large = held_for_a_large_one()
    assert setting.load().requests == 7
    setting.dispatcher.withdraw(large, 0)
    assert len(setting.place()) == 3


def test_without_a_replica_requests_wait_for_the_first() -> None:
    setting = Setting(0)
    reservations = [setting.offer() for _ in range(3)]
    assert setting.place() == []
    setting.now_s = 50
    assert setting.place() == setting.expired == []
    setting.ids = ["late"]
    setting.update(["late"])
    assert setting.place() == reservations


def with_quota(setting: Setting, *kv_tokens: int) -> list[Reservation]:
    """Returns requests that waited, and may now be placed within a quota of 0.55 of a replica."""
    for replica in range(2):
        setting.book(replica, 1000)
    reservations = [setting.offer(tokens) for tokens in kv_tokens]
    want = sum(tokens / 1000 for tokens in kv_tokens)
    # Two replicas are taken to hold 2.5 parts of a replica.
    other = RouterDemand(booked=0.0, waiting=want * (2.5 / 0.55 - 1))
    setting.dispatcher.sync.receive("other", [other], setting.now_s)
    setting.dispatcher.sync.publish_demand(setting.now_s)
    assert setting.dispatcher.sync.quota == pytest.approx(0.55)
    for replica in range(2):
        setting.unbook(replica)
    return reservations


def test_a_router_does_not_go_beyond_its_quota() -> None:
    setting = Setting(2)
    reservations = with_quota(setting, *[100] * 10)
    assert setting.place() == reservations[:5]


def test_a_request_larger_than_the_quota_gets_in_alone() -> None:
    setting = Setting(2)
    large, small = with_quota(setting, 800, 100)
    assert setting.place() == [large]
    assert setting.end(large) == [small]


def test_a_router_that_is_alone_again_has_no_quota() -> None:
    setting = Setting(2)
    reservations = with_quota(setting, *[100] * 10)
    setting.now_s = 6
    setting.dispatcher.sync.publish_demand(setting.now_s)
    assert setting.dispatcher.sync.quota is None
    assert setting.place() == reservations


def test_a_failed_request_moves_to_a_replica_that_was_not_tried() -> None:
    setting = Setting(3)
    reservation = setting.offer()
    setting.book(1, 1000)
    setting.update(setting.ids, ejected=["replica-0"])
    assert setting.dispatcher.move(reservation, 0)
    assert reservation.replica_id == "replica-1", "with headroom or without"
    assert (setting.load(0).requests, setting.load(1).requests) == (0, 2)
    setting.update(setting.ids)
    assert setting.dispatcher.move(reservation, 0)
    assert reservation.tried == ["replica-0", "replica-1", "replica-2"]
    assert not setting.dispatcher.can_move(reservation)
    assert not setting.dispatcher.move(reservation, 0)
    assert reservation.state is State.PLACED
    setting.dispatcher.release(reservation, Outcome.FAILED, 0)
    assert [setting.load(i).requests for i in range(3)] == [0, 1, 0]


def test_an_ejected_replica_gets_no_request_until_it_is_back() -> None:
    setting = Setting(2)
    setting.update(setting.ids, ejected=["replica-0"])
    assert setting.offer().replica_id == "replica-1"
    setting.update(setting.ids)
    assert setting.offer().replica_id == "replica-0"


def test_one_whose_client_left_as_it_was_placed_gives_all_back() -> None:
    setting = Setting()
    reservation, other = setting.offer(600), setting.offer(600)
    setting.dispatcher.withdraw(reservation, 0)
    assert reservation.state is State.WITHDRAWN
    assert other in setting.place()
    assert setting.load().requests == 1
    assert setting.dispatcher._service_rate.booked == pytest.approx(0.6)


def test_a_policy_that_fails_holds_up_nobody_else() -> None:
    setting = Setting(2)

    def fail(ids: list[str], now_s: float) -> str:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        setting.offer(choice=fail)
    assert setting.dispatcher.waiting == 0
    assert setting.dispatcher._service_rate.booked == 0
    following = setting.offer()
    assert setting.place() == [following]


def test_without_limits_all_go_on_at_once() -> None:
    dispatcher = Dispatcher(Chosen(), CAPACITY, None, now_s=0)
    early = dispatcher.submit(Request(work(100)), 0)
    assert (dispatcher.poll(0), dispatcher.waiting) == ([], 1)
    dispatcher.update({"replica": CAPACITY}, 1000)
    assert dispatcher.poll(1000) == [early]
    for _ in range(50):
        dispatcher.submit(Request(work(900)), 1000)
    assert len(dispatcher.poll(1000)) == 50

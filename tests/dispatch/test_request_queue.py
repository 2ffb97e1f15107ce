import random

from serving.dispatch import Request, Reservation
from serving.dispatch.fair_share import FairShare
from serving.dispatch.request_queue import RequestQueue
from serving.placement import ReplicaLoad
from tests.dispatch.setting import work


def reservation(
    number: int,
    kv_tokens: int = 100,
    priority: int = 5,
    expires_at_s: float = 9,
    tenant: str = "",
    weight: float = 1.0,
) -> Reservation:
    request = Request(work(kv_tokens), priority, tenant=tenant, weight=weight)
    return Reservation(request, number, kv_tokens / 1000, 0.0, 0.0, expires_at_s)


def queue_of(*waiting: Reservation) -> RequestQueue:
    queue = RequestQueue(FairShare())
    for each in waiting:
        queue.add(each)
    return queue


def in_order(waiting: list[Reservation]) -> list[Reservation]:
    return sorted(waiting, key=lambda each: (-each.request.priority, each.number))


def test_priority_goes_before_arrival() -> None:
    priorities = (5, 5, 9, 5)
    queue = queue_of(*(reservation(n, priority=p) for n, p in enumerate(priorities, start=1)))
    seen = []
    while first := queue.first():
        seen.append(first.number)
        queue.remove(first)
    assert seen == [3, 1, 2, 4]


def test_the_first_that_fits() -> None:
    queue = queue_of(*(reservation(n, kv) for n, kv in enumerate((5000, 900, 60, 50), start=1)))
    found = [queue.first_within(kv_tokens) for kv_tokens in (9999, 999, 63, 5)]
    assert [one.number if one else None for one in found] == [1, 2, 3, None]


def test_the_last_is_the_newest_of_the_lowest_priority() -> None:
    queue = queue_of(*(reservation(n, priority=p) for n, p in ((1, 2), (2, 2), (3, 8))))
    last = queue.last()
    assert last is not None and last.number == 2


def test_one_that_a_replica_was_held_for_stands_where_it_stood_when_it_is_put_back() -> None:
    first, second, third = (reservation(number) for number in (1, 2, 3))
    queue = queue_of(first, second, third)
    queue.hold(second, ReplicaLoad())
    assert (len(queue), queue.waiting) == (2, 3)
    assert queue.share_ahead(0) == 0.1 * 3
    queue.put_back(second)
    assert list(queue.head(9)) == [first, second, third]
    queue.remove(first)
    assert queue.first() is second


def test_one_that_a_replica_is_held_for_expires_and_leaves_as_the_others() -> None:
    first, held = reservation(1, expires_at_s=9), reservation(2, expires_at_s=7)
    queue = queue_of(first, held)
    queue.hold(held, ReplicaLoad())
    assert queue.next_to_expire() is held
    queue.remove(held)
    assert queue.next_to_expire() is first
    assert queue.waiting == 1


def test_any_order_of_coming_and_going() -> None:
    rng = random.Random(3)
    queue = RequestQueue(FairShare())
    here: list[Reservation] = []
    for number in range(2000):
        if here and rng.random() < 0.45:
            queue.remove(here.pop(rng.randrange(len(here))))
        else:
            size, priority, expires_at_s = rng.randrange(12), rng.randrange(10), rng.randrange(1000)
            here.append(reservation(number, 2**size, priority, expires_at_s))
            queue.add(here[-1])
        kv_tokens = rng.randrange(4096)
        ordered = in_order(here)
        fitting = [each for each in ordered if each.kv_tokens <= kv_tokens]
        assert queue.first_within(kv_tokens) is (fitting[0] if fitting else None)
        assert list(queue.head(8)) == ordered[:8]
        assert queue.last() is (ordered[-1] if ordered else None)
        expiring = queue.next_to_expire()
        assert (expiring.expires_at_s if expiring else None) == min(
            (each.expires_at_s for each in here), default=None
        )
        assert len(queue) == len(here)
        for priority in range(10):
            expected = sum(each.share for each in here if each.request.priority >= priority)
            assert abs(queue.share_ahead(priority) - expected) < 1e-9


def of_tenants(fair_share: FairShare, *tenants: str, weight: float = 1.0) -> RequestQueue:
    queue = RequestQueue(fair_share)
    for number, tenant in enumerate(tenants, start=1):
        queue.add(reservation(number, tenant=tenant, weight=weight))
    return queue


def test_the_tenant_that_was_served_least_by_its_weight_is_first_within_a_priority() -> None:
    fair_share = FairShare()
    queue = of_tenants(fair_share, "a", "b", "a", "b")
    assert [one.number for one in queue.head(9)] == [1, 2, 3, 4]
    fair_share.charge("a", 5, 1, 100)
    fair_share.charge("b", 5, 3, 270)
    assert [one.number for one in queue.head(9)] == [2, 4, 1, 3]
    fair_share.charge("b", 5, 1, 20)
    first, within = queue.first(), queue.first_within(100)
    assert first is within and first is not None and first.number == 1
    queue.add(reservation(9, priority=6, tenant="b"))
    assert [one.number for one in queue.head(9)] == [9, 1, 3, 2, 4]


def test_the_head_has_some_of_each_tenant() -> None:
    fair_share = FairShare()
    queue = of_tenants(fair_share, "b", *["a"] * 100)
    fair_share.charge("b", 5, 1, 100)
    assert "b" in {one.request.tenant for one in queue.head(64)}


def test_the_tenant_that_waits_for_most_by_its_weight_makes_way() -> None:
    queue = of_tenants(FairShare(), "a", "a", "a", "b")
    queue.add(reservation(5, tenant="c", weight=10.0))
    last = queue.last()
    assert last is not None and last.number == 3
    assert queue.makes_way(Request(work(100), tenant="b"), 0.1)
    assert not queue.makes_way(Request(work(200), tenant="b"), 0.2)
    assert not queue.makes_way(Request(work(1), tenant="a"), 0.001)
    assert queue.makes_way(Request(work(1), 6, tenant="a"), 0.001)
    queue.add(reservation(6, priority=4, tenant="b"))
    last = queue.last()
    assert last is not None and last.number == 6

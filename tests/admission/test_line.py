import random

from serving.admission.line import Line
from serving.admission.ticket import Demand, Ticket


def ticket(order: int, kv_tokens: int = 100, priority: int = 5, expires_at_s: float = 9) -> Ticket:
    return Ticket(Demand(kv_tokens, priority), order, kv_tokens / 1000, 0, expires_at_s)


def test_priority_goes_before_arrival() -> None:
    line = Line()
    tickets = [ticket(1, priority=5), ticket(2, priority=5), ticket(3, priority=9), ticket(4)]
    for each in tickets:
        line.add(each)
    seen = []
    while first := line.first(10**9):
        seen.append(first.order)
        line.remove(first)
    assert seen == [3, 1, 2, 4]


def test_the_first_that_fits() -> None:
    line = Line()
    for each in (ticket(1, 5000), ticket(2, 900), ticket(3, 60), ticket(4, 50)):
        line.add(each)
    orders = [first.order if (first := line.first(room)) else None for room in (9999, 999, 63, 5)]
    assert orders == [1, 2, 3, None]


def test_the_last_is_the_newest_of_the_lowest_priority() -> None:
    line = Line()
    for each in (ticket(1, priority=2), ticket(2, priority=2), ticket(3, priority=8)):
        line.add(each)
    last = line.last()
    assert last is not None and last.order == 2


def test_one_that_is_put_back_stands_where_it_stood_and_once() -> None:
    line = Line()
    tickets = [ticket(order) for order in (1, 2, 3)]
    for each in tickets:
        line.add(each)
    line.remove(tickets[1])
    line.put_back(tickets[1])
    line.remove(tickets[0])
    assert line.first(10**9) is tickets[1]
    line.remove(tickets[1])
    assert line.first(10**9) is tickets[2]
    assert len(line) == 1


def test_any_order_of_coming_and_going() -> None:
    rng = random.Random(3)
    line = Line()
    here: list[Ticket] = []
    for order in range(2000):
        if here and rng.random() < 0.45:
            line.remove(here.pop(rng.randrange(len(here))))
        else:
            here.append(
                ticket(order, 2 ** rng.randrange(12), rng.randrange(10), rng.randrange(1000))
            )
            line.add(here[-1])
        room = rng.randrange(4096)
        fitting = [t for t in here if t.demand.kv_tokens <= room]
        assert line.first(room) is min(
            fitting, key=lambda t: (-t.demand.priority, t.order), default=None
        )
        assert line.last() is min(here, key=lambda t: (t.demand.priority, -t.order), default=None)
        expiring = line.next_to_expire()
        assert (expiring.expires_at_s if expiring else None) == min(
            (t.expires_at_s for t in here), default=None
        )
        assert len(line) == len(here)
        for priority in range(10):
            expected = sum(t.share for t in here if t.demand.priority == priority)
            assert abs(line.shares[priority] - expected) < 1e-9

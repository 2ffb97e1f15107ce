import random

from serving.admission.front import Front
from serving.admission.ticket import Demand, Ticket


def ticket(order: int, priority: int = 5) -> Ticket:
    return Ticket(Demand(100, priority), order, 0.1, 0.0, 30.0)


def in_order(tickets: list[Ticket]) -> list[Ticket]:
    return sorted(tickets, key=lambda t: (-t.demand.priority, t.order))


def test_the_first_are_those_of_highest_priority_that_came_first() -> None:
    front = Front(3)
    tickets = [ticket(1), ticket(2), ticket(3, 9), ticket(4, 1), ticket(5, 9)]
    for each in tickets:
        front.add(each)
    assert [each.order for each in front] == [3, 5, 1]


def test_it_is_the_beginning_of_the_sorted_line_whoever_comes_leaves_or_comes_back() -> None:
    rng, front = random.Random(1), Front(8)
    waiting: list[Ticket] = []
    left: list[Ticket] = []
    for order in range(2000):
        if waiting and rng.random() < 0.48:
            leaver = waiting.pop(rng.randrange(len(waiting)))
            leaver.gone = True
            front.remove(leaver)
            left.append(leaver)
        elif left and rng.random() < 0.05:
            front.sweep()
            back = left.pop()
            back.gone = False
            front.add(back)
            waiting.append(back)
        else:
            waiting.append(ticket(order, rng.choice([1, 5, 9])))
            front.add(waiting[-1])
        assert list(front) == in_order(waiting)[:8]

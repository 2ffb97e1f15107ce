import pytest

from serving.dispatch.messages import RouterDemand
from serving.dispatch.quota import divide, quotas


def demand(booked: float, waiting: float = 0.0) -> RouterDemand:
    return RouterDemand(booked, waiting)


def test_what_is_too_little_for_all_is_divided_in_proportion() -> None:
    assert divide(8, [demand(0, 4), demand(1, 11), demand(0, 16)]) == pytest.approx([1, 3, 4])


def test_what_nobody_wants_is_dealt_out_on_top() -> None:
    assert divide(8, [demand(1), demand(3)]) == pytest.approx([3, 5])


def test_nobody_loses_what_it_has_booked() -> None:
    parts = divide(8, [demand(7), demand(0, 10), demand(0, 10)])
    assert parts == pytest.approx([7, 0.5, 0.5])


def test_more_booked_than_there_is_leaves_nothing_to_the_others() -> None:
    assert divide(4, [demand(5), demand(0, 3)]) == pytest.approx([5, 0])


def test_all_routers_come_to_the_same_quotas() -> None:
    demands = [demand(2, 6), demand(0, 1), demand(1, 3)]
    own = [quotas(demands[i:] + demands[:i], 8, 3)[0] for i in range(3)]
    assert own == pytest.approx(quotas(demands, 8, 3))
    assert sum(own) == pytest.approx(8 * 1.25)


def test_where_requests_share_memory_more_of_them_fit() -> None:
    """Six replicas' worth of requests take only two."""
    assert quotas([demand(3, 9), demand(3, 9)], 4, 2.0)[0] == pytest.approx(4 * 3 / 2)

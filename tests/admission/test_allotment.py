import pytest

from serving.admission.allotment import OtherRouters, RouterDemand, allot


def demand(router_id: str, booked: float, waiting: float = 0.0) -> RouterDemand:
    return RouterDemand(router_id, booked, waiting)


def test_what_is_too_little_for_all_is_shared_in_proportion() -> None:
    parts = allot(8, [demand("a", 0, 4), demand("b", 1, 11), demand("c", 0, 16)])
    assert parts == pytest.approx({"a": 1, "b": 3, "c": 4})


def test_what_nobody_wants_is_dealt_out_on_top() -> None:
    assert allot(8, [demand("a", 1), demand("b", 3)]) == pytest.approx({"a": 3, "b": 5})


def test_nobody_loses_what_it_has_booked() -> None:
    parts = allot(8, [demand("a", 7), demand("b", 0, 10), demand("c", 0, 10)])
    assert parts == pytest.approx({"a": 7, "b": 0.5, "c": 0.5})


def test_more_booked_than_there_is_leaves_nothing_to_the_others() -> None:
    assert allot(4, [demand("a", 5), demand("b", 0, 3)]) == pytest.approx({"a": 5, "b": 0})


def test_alone_there_is_no_bound() -> None:
    assert OtherRouters().allotment(demand("a", 1), 4, 1, 0) is None


def test_all_routers_come_to_the_same_parts() -> None:
    demands = [demand("a", 2, 6), demand("b", 0, 1), demand("c", 1, 3)]
    total = 0.0
    for own in demands:
        peers = OtherRouters()
        for other in demands:
            if other is not own:
                peers.hear(other, 0)
        total += peers.allotment(own, 8, 3, 1) or 0
    assert total == pytest.approx(8 * 1.25)


def test_a_router_that_is_silent_is_forgotten() -> None:
    peers = OtherRouters()
    peers.hear(demand("b", 3), 0)
    assert peers.allotment(demand("a", 1), 4, 4, 4.9) == pytest.approx(1.5)
    assert peers.allotment(demand("a", 1), 4, 4, 5.1) is None


def test_where_requests_share_memory_more_of_them_fit() -> None:
    """Six replicas' worth of requests take but two."""
    peers = OtherRouters()
    peers.hear(demand("b", 3, 9), 0)
    assert peers.allotment(demand("a", 3, 9), 4, 2.0, 1) == pytest.approx(4 * 3 / 2)

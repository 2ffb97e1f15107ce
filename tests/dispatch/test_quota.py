import pytest

from serving.dispatch.messages import RouterDemand, TenantDemand
from serving.dispatch.quota import divide, expected_parts, quotas


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
    own = [quotas(demands[i:] + demands[:i], 8, 3)[""] for i in range(3)]
    assert own == pytest.approx(expected_parts(demands, 8, 3))
    assert sum(own) == pytest.approx(8 * 1.25)


def test_where_requests_share_memory_more_of_them_fit() -> None:
    """Six replicas' worth of requests take only two."""
    assert quotas([demand(3, 9), demand(3, 9)], 4, 2.0)[""] == pytest.approx(4 * 3 / 2)


def of_tenants(**tenants: tuple[float, float]) -> RouterDemand:
    """Returns the demand of a router whose tenants have so much booked and waiting."""
    demands = {name: TenantDemand(1.0, *of) for name, of in tenants.items()}
    return RouterDemand(
        sum(booked for booked, _ in tenants.values()),
        sum(waiting for _, waiting in tenants.values()),
        demands,
    )


def test_the_routers_of_a_tenant_divide_what_the_other_tenants_leave() -> None:
    demands = [of_tenants(a=(1, 2), b=(4, 9)), of_tenants(a=(1, 8)), of_tenants(c=(0, 30))]
    left = 8 * 1.25 - 4
    parts = quotas(demands, 8, 6)
    assert parts["a"] == pytest.approx(divide(left, [demand(1, 2), demand(1, 8)])[0])
    assert "b" not in parts, "no other router has any of it"

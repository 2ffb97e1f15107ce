import pytest

from serving.dispatch.fair_share import Backlog, FairShare, together

P = 5


def test_a_tenant_that_wakes_has_no_credit_for_its_idleness() -> None:
    fair_share = FairShare()
    fair_share.wake("a", P, [])
    for _ in range(10):
        fair_share.charge("a", P, 1, 100)
    fair_share.wake("b", P, ["a"])
    assert fair_share.virtual_ms("b", P) == fair_share.virtual_ms("a", P) == 1000


def test_a_tenant_that_nobody_waited_beside_owes_nothing_for_what_it_used() -> None:
    fair_share = FairShare()
    fair_share.wake("a", P, [])
    for _ in range(10):
        fair_share.charge("a", P, 1, 100)
    fair_share.wake("b", P, [])
    fair_share.wake("a", P, ["b"])
    ahead_ms = fair_share.virtual_ms("a", P) - fair_share.virtual_ms("b", P)
    assert ahead_ms == 100, "the last of them, which still runs"


def test_what_a_request_took_replaces_what_was_expected() -> None:
    fair_share = FairShare()
    fair_share.wake("a", P, [])
    charge = fair_share.charge("a", P, 2, 100)
    assert fair_share.virtual_ms("a", P) == 50
    correction = fair_share.correct(charge, 2, 340)
    assert (fair_share.virtual_ms("a", P), correction.virtual_ms) == (170, 120)
    assert fair_share.served_ms == {"a": 340}, "what has ended"


def test_routers_that_hear_of_each_others_charges_have_the_same_virtual_times() -> None:
    one, two = FairShare(), FairShare()
    one.wake("a", P, [])
    one.wake("b", P, ["a"])
    for tenant in "aab":
        charge = one.charge(tenant, P, 1, 100)
        two.receive(charge)
        two.receive(one.correct(charge, 1, 70))
    assert [two.virtual_ms(tenant, P) for tenant in "ab"] == [140, 70]
    two.wake("c", P, ["a"])
    assert two.virtual_ms("c", P) == 140
    both = one.charge("a", P, 1, 10), two.charge("a", P, 1, 10)
    two.receive(both[0])
    one.receive(both[1])
    assert one.virtual_ms("a", P) == two.virtual_ms("a", P) == 160


def test_a_tenant_is_held_back_while_one_with_less_virtual_time_waits_at_another_router() -> None:
    fair_share = FairShare()
    assert fair_share.last_rank() is None
    fair_share.meet({"a": P, "b": P}, {"a": P}, lead_ms=50)
    fair_share.charge("a", P, 1, 100)
    fair_share.charge("b", P, 1, 40)
    last = fair_share.last_rank()
    assert last is not None and last == (-P, 90)
    assert fair_share.rank("b", P) < last < fair_share.rank("a", P)
    fair_share.meet({"b": P - 1}, {"a": P}, lead_ms=50)
    last = fair_share.last_rank()
    assert last is not None and fair_share.rank("a", P) < last, "a higher priority goes first"


def test_a_tenant_that_waits_at_another_router_already_does_not_wake() -> None:
    fair_share = FairShare()
    fair_share.charge("b", P, 1, 100)
    fair_share.meet({"a": P}, {"b": P}, lead_ms=0)
    assert fair_share.virtual_ms("a", P) == 100, "it begins to wait beside b"
    fair_share.charge("b", P, 1, 100)
    fair_share.wake("a", P, ["b"])
    assert fair_share.virtual_ms("a", P) == 100


def ahead(own: float, weight: float = 1.0, **others: tuple[float, float]) -> float:
    fair_share = FairShare()
    backlogs = {name: Backlog(*of) for name, of in others.items()}
    return fair_share.share_ahead("own", P, Backlog(own, weight), backlogs, 0.001)


def test_only_what_others_get_by_their_shares_is_ahead() -> None:
    assert ahead(0.1, b=(9.0, 1.0)) == pytest.approx(0.1)
    assert ahead(0.1, b=(9.0, 3.0), c=(0.05, 1.0)) == pytest.approx(0.35)
    assert ahead(1.0, 4.0, b=(9.0, 1.0)) == pytest.approx(0.25)


def test_who_was_served_more_waits_for_the_others_to_catch_up() -> None:
    fair_share = FairShare()
    fair_share.wake("own", P, [])
    fair_share.wake("b", P, ["own"])
    fair_share.charge("own", P, 1, 500)
    waits_for = fair_share.share_ahead("own", P, Backlog(0.1, 1), {"b": Backlog(9, 1)}, 0.001)
    assert waits_for == pytest.approx(0.1 + 0.5)


def test_backlogs_add_up_by_tenant() -> None:
    both = together({"a": Backlog(1, 1)}, {"a": Backlog(2, 3), "b": Backlog(1, 1)})
    assert both == {"a": Backlog(3, 3), "b": Backlog(1, 1)}

import pytest

from serving.placement import Booking, Capacity, Fleet, LeastCost, ReplicaLoad, Work
from tests.placement.works import prefix, work

CAPACITY = Capacity(kv_cache_tokens=145_000, max_num_seqs=256)
REPLICAS = ("a", "b", "c")


def fleet() -> Fleet:
    made = Fleet(LeastCost())
    for replica_id in REPLICAS:
        made.add(replica_id, CAPACITY)
    return made


def candidates(fleet: Fleet, *replica_ids: str) -> list[ReplicaLoad]:
    return [fleet.loads[replica_id] for replica_id in replica_ids or fleet.loads]


def place(fleet: Fleet, *blocks: int, on: tuple[str, ...] = (), now_s: float = 0.0) -> Booking:
    load, cached_tokens = fleet.choose(work(*blocks), candidates(fleet, *on), now_s)
    return fleet.book(work(*blocks), load, cached_tokens, now_s)


def test_a_choice_changes_nothing_until_it_is_booked() -> None:
    made = fleet()
    load, cached_tokens = made.choose(work(1, 2, 3), candidates(made), 0.0)
    assert cached_tokens == 0 and load.requests == 0
    assert made.choose(work(1, 2, 3), candidates(made), 0.0) == (load, 0)
    booking = made.book(work(1, 2, 3), load, cached_tokens, 0.0)
    assert load.requests == 1
    made.end(booking, 1.0)
    assert made.choose(work(1, 2, 3, 4), candidates(made), 1.0) == (load, 300)


def test_only_the_candidates_are_chosen_from() -> None:
    made = fleet()
    place(made, 1, 2, 3, on=("b",))
    assert made.choose(work(1, 2, 3), candidates(made, "c"), 0.0)[0].replica_id == "c"
    with pytest.raises(ValueError):
        made.choose(work(1), [], 0.0)


def test_requests_end_and_their_answers_are_prefixes() -> None:
    made = fleet()
    booking = place(made, 1, 2)
    made.first_token(booking, 0.1)
    assert booking.load.prefill_tokens == 0
    made.end(booking, 1.0, output_tokens=100)
    assert booking.load.requests == 0
    next_turn = Work(prefix(1, 2, 3, 4, answer=(2, 3)), 400, 100)
    assert made.choose(next_turn, candidates(made), 2.0) == (booking.load, 300)


def test_an_answer_is_not_cached_on_a_replica_that_took_the_place_of_its_own() -> None:
    made = fleet()
    booking = place(made, 1, 2, on=("a",))
    made.remove("a")
    made.add("a", CAPACITY)
    made.end(booking, 1.0, output_tokens=100)
    next_turn = Work(prefix(1, 2, 3, 4, answer=(2, 3)), 400, 100)
    assert made.choose(next_turn, candidates(made, "a"), 2.0) == (made.loads["a"], 0)
    assert made.loads["a"].requests == 0


def test_how_much_of_a_prompt_is_cached_where_most_is() -> None:
    made = fleet()
    place(made, 1, 2, 3, on=("a",))
    place(made, 1, on=("b",))
    assert made.most_cached_tokens(prefix(1, 2, 3, 4)) == 300
    made.remove("a")
    assert made.most_cached_tokens(prefix(1, 2, 3, 4)) == 100
    assert Fleet(LeastCost()).most_cached_tokens(prefix(1)) == 0

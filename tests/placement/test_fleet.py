import random

import msgspec
import pytest

from serving.placement import (
    Ended,
    Event,
    FirstToken,
    Fleet,
    LeastCost,
    Placed,
    RoundRobin,
    Work,
)
from tests.placement.works import prefix, work

REPLICAS = ("a", "b", "c")


def fleet() -> Fleet:
    made = Fleet(LeastCost())
    for replica_id in REPLICAS:
        made.add(replica_id, kv_capacity_tokens=145_000, max_sequences=256)
    return made


def place(router: Fleet, *blocks: int, now_s: float = 0.0) -> Placed:
    placed = router.decide(work(*blocks), REPLICAS, now_s)
    router.apply(placed, now_s)
    return placed


def known(router: Fleet) -> list[tuple[object, ...]]:
    """What decides: all of the ledger, and the index for some prompts."""
    prompts = [prefix(i, i + 1, i + 2) for i in range(0, 60, 3)]
    cached = [
        router.decide(work(*p.hashes, output_tokens=1), [replica_id], 0.0).cached_tokens
        for p in prompts
        for replica_id in REPLICAS
    ]
    ledger = [
        (load.requests, load.prefill_tokens, load.kv_tokens, load.output_tokens)
        for load in router.loads.values()
    ]
    return [*ledger, tuple(cached)]


def test_a_decision_changes_nothing_until_it_is_applied() -> None:
    router = fleet()
    before = known(router)
    placed = router.decide(work(1, 2, 3), REPLICAS, 0.0)
    assert known(router) == before
    router.apply(placed, 0.0)
    assert router.loads[placed.replica_id].requests == 1
    router.apply(Ended(placed.request), 1.0)
    assert place(router, 1, 2, 3, 4).cached_tokens == 300


def test_what_is_only_asked_for_is_not_booked() -> None:
    router = fleet()
    place(router, 1, 2, 3)
    before = known(router)
    chosen = router.choose(work(1, 2, 3, 4), REPLICAS, 1.0)
    assert known(router) == before
    assert router.decide(work(1, 2, 3, 4), REPLICAS, 1.0).replica_id == REPLICAS[chosen]


def test_only_the_candidates_are_chosen_from() -> None:
    router = fleet()
    router.apply(router.decide(work(1, 2, 3), ["b"], 0.0), 0.0)
    assert router.decide(work(1, 2, 3), ["c"], 0.0).replica_id == "c"
    with pytest.raises(ValueError):
        router.decide(work(1), [], 0.0)


def test_requests_end_and_their_answers_are_prefixes() -> None:
    router = fleet()
    placed = place(router, 1, 2)
    router.apply(FirstToken(placed.request), 0.1)
    assert router.loads[placed.replica_id].prefill_tokens == 0
    router.apply(Ended(placed.request, output_tokens=100), 1.0)
    assert router.loads[placed.replica_id].requests == 0
    next_turn = Work(prefix(1, 2, 3, 4, answer=(2, 3)), 400, 100)
    assert router.decide(next_turn, REPLICAS, 2.0).cached_tokens == 300


def test_a_replica_that_is_gone_leaves_when_its_requests_have_ended() -> None:
    router = fleet()
    one, other = place(router, 1, 2), place(router, 7, 8)
    assert one.replica_id != other.replica_id
    assert router.leaving() == 0
    router.remove(one.replica_id)
    assert router.leaving() == 1
    router.remove(other.replica_id)
    assert router.leaving() == 2
    router.apply(Ended(one.request), 1.0)
    assert router.leaving() == 1


def test_one_that_failed_has_no_answer() -> None:
    router = fleet()
    placed = place(router, 1, 2)
    router.apply(Ended(placed.request), 1.0)
    next_turn = Work(prefix(1, 2, 3, 4, answer=(2, 3)), 400, 100)
    assert router.decide(next_turn, REPLICAS, 2.0).cached_tokens == 200


def test_another_router_that_replays_the_events_knows_the_same() -> None:
    """Two routers place requests in turn, and send each other their events as bytes."""
    rng = random.Random(4)
    routers = {"one": fleet(), "two": fleet()}
    decoder = msgspec.msgpack.Decoder(Event)
    open_requests: dict[str, list[int]] = {"one": [], "two": []}

    def change(name: str, event: Event, now_s: float) -> None:
        for other, router in routers.items():
            if other == name:
                router.apply(event, now_s)
            else:
                router.apply(decoder.decode(msgspec.msgpack.encode(event)), now_s, source=name)

    for step in range(400):
        name, now_s = rng.choice(("one", "two")), 0.05 * step
        requests = open_requests[name]
        if len(requests) < 4 or rng.random() < 0.4:
            start = 3 * rng.randrange(20)
            asked = work(*range(start, start + rng.randrange(1, 6)))
            placed = routers[name].decide(asked, REPLICAS, now_s)
            change(name, placed, now_s)
            requests.append(placed.request)
        elif rng.random() < 0.5:
            change(name, FirstToken(rng.choice(requests)), now_s)
        else:
            request = requests.pop(rng.randrange(len(requests)))
            change(name, Ended(request, rng.choice((0, 80))), now_s)
    assert known(routers["one"]) == known(routers["two"])
    assert sum(load.requests for load in routers["one"].loads.values()) == sum(
        len(requests) for requests in open_requests.values()
    )
    for name, requests in open_requests.items():
        for request in requests:
            change(name, Ended(request), 99.0)
    for router in routers.values():
        assert all(load.requests == load.kv_tokens == 0 for load in router.loads.values())


def test_a_router_that_goes_takes_its_requests_along() -> None:
    router, other = fleet(), fleet()
    place(router, 1)
    for i in range(5):
        router.apply(place(other, 10 * i), 0.0, source="other")
    router.forget("other", 1.0)
    assert sum(load.requests for load in router.loads.values()) == 1
    router.forget("never heard of", 1.0)


def test_events_of_what_is_not_known_are_ignored() -> None:
    router, other = fleet(), fleet()
    other.add("new", kv_capacity_tokens=145_000, max_sequences=256)
    early = other.decide(work(1), ["new"], 0.0)
    for event in (early, FirstToken(early.request), Ended(early.request, 10), Ended(99)):
        router.apply(event, 0.0, source="other")
    assert all(load.requests == 0 for load in router.loads.values())


def test_a_replica_may_go_before_its_requests_end() -> None:
    router = fleet()
    placed = place(router, 1, 2)
    router.remove(placed.replica_id)
    router.apply(FirstToken(placed.request), 0.1)
    router.apply(Ended(placed.request, 100), 1.0)
    router.add(placed.replica_id, kv_capacity_tokens=145_000, max_sequences=256)
    fresh = router.decide(work(1, 2), [placed.replica_id], 2.0)
    assert fresh.cached_tokens == 0
    assert router.loads[placed.replica_id].requests == 0


def test_what_of_a_prompt_is_cached_is_told_of_each_replica() -> None:
    router = fleet()
    for replica_id, blocks in (("a", (1, 2, 3)), ("b", (1,))):
        router.apply(router.decide(work(*blocks), [replica_id], 0.0), 0.0)
    assert router.cached_tokens(prefix(1, 2, 3, 4), ["b", "c", "a"]) == [100, 0, 300]
    assert router.cached_tokens(prefix(9), ["a"]) == [0]
    assert router.cached_tokens(prefix(1), []) == []


def test_any_policy_will_do() -> None:
    router = Fleet(RoundRobin())
    for replica_id in REPLICAS:
        router.add(replica_id, kv_capacity_tokens=1000, max_sequences=4)
    assert [place(router, i).replica_id for i in range(4)] == ["a", "b", "c", "a"]

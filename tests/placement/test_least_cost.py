import random
from collections.abc import Sequence

import pytest

from serving.placement import (
    UNLIMITED,
    Booking,
    Capacity,
    Fleet,
    LeastCost,
    PrefixIndex,
    Rates,
    ReplicaLoad,
    Work,
)
from serving.placement.least_cost import FIRST_TOKEN_WEIGHT, NEAR
from tests.placement.works import work

KV_TOKENS = 145_000


def replicas(
    count: int, kv_cache_tokens: int = KV_TOKENS, max_num_seqs: int = UNLIMITED.max_num_seqs
) -> list[ReplicaLoad]:
    capacity = Capacity(kv_cache_tokens, max_num_seqs)
    return [ReplicaLoad(f"r{i}", capacity, Rates()) for i in range(count)]


def choose(asked: Work, loads: list[ReplicaLoad], *cached: int, now_s: float = 0.0) -> int:
    return LeastCost().choose(asked, loads, cached or [0] * len(loads), now_s)


def decode(load: ReplicaLoad, count: int, prompt_tokens: int = 2000) -> None:
    for _ in range(count):
        asked = work(prompt_tokens=prompt_tokens, output_tokens=300)
        load.book(asked, 0, now_s=0.0, learn=False).first_token(0.0)


def test_none_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError):
        choose(work(1), [])


def test_the_replica_that_has_the_prompt_is_chosen() -> None:
    loads = replicas(3)
    assert choose(work(prompt_tokens=6000), loads, 0, 5000, 3000) == 1


def test_little_that_is_cached_does_not_outweigh_a_queue() -> None:
    loads = replicas(2)
    loads[0].book(work(prompt_tokens=8000), 0, now_s=0.0)
    assert choose(work(prompt_tokens=6000), loads, 1000, 0) == 1
    assert choose(work(prompt_tokens=16_000), loads, 15_000, 0) == 0


def test_prefill_is_kept_from_where_many_decode() -> None:
    loads = replicas(2)
    decode(loads[0], 20)
    decode(loads[1], 2)
    assert choose(work(prompt_tokens=6000), loads) == 1
    assert choose(work(prompt_tokens=6000), loads, 2000, 0) == 1


def test_the_context_that_steps_read_counts_not_the_requests_alone() -> None:
    loads = replicas(2)
    decode(loads[0], 4, prompt_tokens=500)
    decode(loads[1], 4, prompt_tokens=30_000)
    asked = work(prompt_tokens=20, output_tokens=2000)
    assert choose(asked, loads) == 0


def test_a_full_kv_cache_costs_the_wait_for_headroom() -> None:
    asked = work(prompt_tokens=12_000, output_tokens=20)
    for kv_cache_tokens, expected in ((KV_TOKENS, 1), (1_000_000, 0)):
        loads = replicas(2, kv_cache_tokens=kv_cache_tokens)
        for _ in range(5):
            long_answer = work(prompt_tokens=34_000, output_tokens=2000)
            loads[0].book(long_answer, 0, now_s=0.0, learn=False).first_token(0.0)
        assert choose(asked, loads, 12_000, 0) == expected


def test_a_full_batch_costs_the_wait_for_a_slot() -> None:
    asked = work(prompt_tokens=500, output_tokens=20)
    for max_num_seqs, expected in ((8, 1), (9, 0)):
        loads = replicas(2, max_num_seqs=max_num_seqs)
        decode(loads[0], 8, prompt_tokens=100)
        decode(loads[1], 7, prompt_tokens=3000)
        assert choose(asked, loads, 200, 0) == expected


def test_more_may_be_cached_than_the_prompt_is_taken_for() -> None:
    loads = replicas(2)
    assert choose(work(prompt_tokens=0, output_tokens=0), loads, 0, 100) == 1


def test_a_slow_replica_gets_less() -> None:
    loads = replicas(2)
    for _ in range(60):
        loads[0].rates.observe_first_token(4000, 3000)
    assert choose(work(prompt_tokens=4000), loads) == 1


def test_a_replica_that_hangs_gets_nothing_more() -> None:
    loads = replicas(2)
    loads[0].book(work(prompt_tokens=200), 0, now_s=0.0)
    decode(loads[1], 10)
    asked = work(prompt_tokens=200)
    assert choose(asked, loads, now_s=0.0) == 0
    assert choose(asked, loads, now_s=30.0) == 1


def test_rates_that_differ_by_chance_do_not_decide() -> None:
    """Otherwise one replica would get all new work while little is going on."""
    loads = replicas(3)
    loads[0].rates.observe_first_token(4000, 375)
    asked, placed = work(prompt_tokens=4000), []
    for i in range(9):
        chosen = choose(asked, loads, now_s=10.0 * i)
        loads[chosen].book(asked, 0, 10.0 * i).end(10.0 * i + 5)
        placed.append(chosen)
    assert sorted(placed) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_of_equal_costs_the_cached_prompt_wins() -> None:
    loads = replicas(2)
    loads[1].book(work(prompt_tokens=1), 0, now_s=0.0).end(0.0)
    assert choose(work(prompt_tokens=10_000), loads, 0, 300) == 1


def test_the_first_choice_is_the_same_everywhere() -> None:
    """Routers with the same state decide the same: nothing is left to chance."""
    assert {choose(work(prompt_tokens=4000), replicas(5)) for _ in range(20)} == {0}


class Serving:
    """Replicas that prefill one prompt after the other, and an index of what they were sent."""

    def __init__(self, count: int) -> None:
        self.loads = replicas(count)
        self.index = PrefixIndex()
        for _ in range(count):
            self.index.add_replica(KV_TOKENS)

    def place(self, asked: Work, now_s: float) -> tuple[int, int]:
        """Returns the replica, and the tokens cached there."""
        cached = self.index.cached_tokens(asked.prefix)
        slot = LeastCost().choose(asked, self.loads, cached, now_s)
        self.loads[slot].book(asked, cached[slot], now_s)
        self.index.touch(slot, asked.prefix)
        return slot, cached[slot]


def test_a_hot_prefix_spreads_before_its_replica_saturates_and_not_without_need() -> None:
    fleet = Serving(4)
    hot = list(range(60))

    def burst(count: int, now_s: float) -> list[int]:
        tails = ([*hot, *range(1000 * i, 1000 * i + 12)] for i in range(1, count + 1))
        return [fleet.place(work(*blocks), now_s)[0] for blocks in tails]

    fleet.place(work(*hot), now_s=0.0)
    fleet.loads = replicas(4)
    assert len(set(burst(3, 1.0))) == 1, "3 x 109 ms of one replica's time is less than 545"
    placed = burst(40, 1.0)
    assert set(placed) == {0, 1, 2, 3}
    waits_ms = [load.prefill_ms(1.0) for load in fleet.loads]
    assert max(waits_ms) < 1.5 * min(waits_ms)


def test_a_fresh_replica_gets_work_at_once() -> None:
    fleet = Serving(3)
    for i in range(30):
        fleet.place(work(*range(100 * i, 100 * i + 50)), now_s=0.0)
    fleet.loads.append(replicas(1)[0])
    fleet.index.add_replica(KV_TOKENS)
    # Prompts that others have cached, and one that none has.
    assert fleet.place(work(*range(50)), now_s=0.0) == (3, 0)
    assert fleet.place(work(*range(9000, 9050)), now_s=0.0) == (3, 0)


def test_affinity_holds_for_others_while_one_replica_is_overloaded() -> None:
    fleet = Serving(3)
    first = [fleet.place(work(*range(100 * i, 100 * i + 40)), 10.0 * i)[0] for i in range(3)]
    assert sorted(first) == [0, 1, 2]
    fleet.loads = replicas(3)
    for i in range(40):
        fleet.loads[first[0]].book(work(prompt_tokens=2000, output_tokens=1 + i), 0, now_s=50.0)
    for i in (1, 2):
        again = work(*range(100 * i, 100 * i + 40), 5000 + i)
        assert fleet.place(again, now_s=50.0) == (first[i], 4000)
    slot, cached = fleet.place(work(*range(40), 5000), now_s=50.0)
    assert slot != first[0]
    assert cached == 0


def costs_one_by_one(
    asked: Work, loads: list[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
) -> int:
    """Implements the rule of `LeastCost` replica by replica."""
    context_tokens = asked.prompt_tokens + asked.output_tokens
    costs_ms = []
    for load, cached in zip(loads, cached_tokens, strict=True):
        rates = load.rates
        prefill_ms = max(asked.prompt_tokens - cached, 0) * rates.prefill_ms_per_token
        cost_ms = prefill_ms * (FIRST_TOKEN_WEIGHT + load.requests)
        cost_ms += FIRST_TOKEN_WEIGHT * load.prefill_ms(now_s)
        read_tokens = load.context_tokens + load.requests * context_tokens
        cost_ms += asked.output_tokens * rates.step_ms_per_context_token * read_tokens
        full = load.kv_tokens + context_tokens > load.capacity.kv_cache_tokens
        if load.requests and (full or load.requests >= load.capacity.max_num_seqs):
            cost_ms += load.headroom_wait_ms(asked, cached)
        costs_ms.append(cost_ms)
    near_ms = min(costs_ms) * (1 + NEAR)
    near = [i for i, cost_ms in enumerate(costs_ms) if cost_ms <= near_ms]
    return min(near, key=lambda i: (-cached_tokens[i], loads[i].requests, loads[i].booked_s))


@pytest.mark.parametrize("count", [1, 2, 7, 40, 200])
@pytest.mark.parametrize("capacity", [Capacity(KV_TOKENS, 256), Capacity(9_000, 5)])
def test_many_replicas_are_compared_as_one_by_one(count: int, capacity: Capacity) -> None:
    """Covers any load, streamed and not, full and not, learnt and not, of a fleet or a part
    of it."""
    rng = random.Random(count)
    fleet = Fleet(LeastCost())
    for i in range(count):
        fleet.add(f"r{i}", capacity)
    unfinished: list[Booking] = []
    for step in range(600):
        now_s = step / 50
        conversation = 100 * rng.randrange(6)
        blocks = range(conversation, conversation + rng.randint(1, 20))
        tail = range(10_000 + 50 * step, 10_000 + 50 * step + rng.choice([0, 3, 30]))
        asked = work(
            *blocks, *tail, output_tokens=rng.choice([10, 300]), streamed=rng.random() < 0.9
        )
        ids = [f"r{i}" for i in range(count)]
        if rng.random() < 0.3:
            ids = rng.sample(ids, rng.randint(1, count))
        loads = [fleet.loads[replica_id] for replica_id in ids]
        for load in loads:
            load.prefill_ms(now_s)  # ends overdue prefill whose end will not be seen
        chosen, cached_tokens = fleet.choose(asked, loads, now_s)
        cached = [fleet.choose(asked, [load], now_s)[1] for load in loads]
        assert chosen is loads[costs_one_by_one(asked, loads, cached, now_s)]
        assert chosen is loads[choose(asked, loads, *cached, now_s=now_s)]
        assert cached_tokens == cached[loads.index(chosen)]
        unfinished.append(fleet.book(asked, chosen, cached_tokens, now_s))
        if len(unfinished) > 3 * count:
            one = unfinished.pop(rng.randrange(len(unfinished)))
            fleet.first_token(one, now_s)
            fleet.end(one, now_s + 0.01, rng.choice([0, 200]))
        elif rng.random() < 0.5:
            fleet.first_token(rng.choice(unfinished), now_s)
        if step % 150 == 149 and count > 1:
            gone = rng.choice(list(fleet.loads))
            fleet.remove(gone)
            fleet.add(gone, capacity)

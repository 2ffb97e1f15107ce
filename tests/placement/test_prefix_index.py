import random

import pytest

from serving.placement import PrefixIndex
from tests.placement.works import prefix


def index(*capacities_tokens: int) -> PrefixIndex:
    made = PrefixIndex()
    for slot, capacity_tokens in enumerate(capacities_tokens):
        assert made.add_replica(capacity_tokens) == slot
    return made


def test_nothing_is_cached_at_first() -> None:
    assert index(1000, 1000).cached_tokens(prefix(1, 2)) == [0, 0]
    assert index().cached_tokens(prefix(1)) == []
    assert index(1000).cached_tokens(prefix()) == [0]


def test_each_replica_has_as_much_of_a_prompt_as_it_was_sent() -> None:
    held = index(1000, 1000, 1000, 1000)
    held.touch(0, prefix(1, 2, 3))
    held.touch(2, prefix(1, 2, 7, 8))
    held.touch(3, prefix(9))
    assert held.cached_tokens(prefix(1, 2, 3, 4)) == [300, 0, 200, 0]
    assert held.cached_tokens(prefix(1)) == [100, 0, 100, 0]


def test_a_block_without_those_before_it_is_of_no_use() -> None:
    held = index(1000)
    held.touch(0, prefix(1, 2))
    assert held.cached_tokens(prefix(5, 2)) == [0]


def test_what_was_not_used_for_longest_goes_first() -> None:
    held = index(400)
    held.touch(0, prefix(1, 2))
    held.touch(0, prefix(3, 4))
    held.touch(0, prefix(1, 2))
    held.touch(0, prefix(5, 6))
    assert [held.cached_tokens(prefix(*p)) for p in ((1, 2), (3, 4), (5, 6))] == [
        [200],
        [0],
        [200],
    ]


def test_of_a_prompt_the_end_goes_first() -> None:
    held = index(400)
    held.touch(0, prefix(1, 2, 3))
    held.touch(0, prefix(4, 5))
    assert held.cached_tokens(prefix(1, 2, 3)) == [200]
    assert held.cached_tokens(prefix(4, 5)) == [200]


def test_a_prompt_larger_than_the_cache_leaves_its_beginning() -> None:
    held = index(250)
    held.touch(0, prefix(1, 2, 3, 4))
    assert held.cached_tokens(prefix(1, 2, 3, 4)) == [200]


def test_one_replicas_eviction_leaves_the_others() -> None:
    held = index(200, 1000)
    for slot in (0, 1):
        held.touch(slot, prefix(1, 2))
        held.touch(slot, prefix(3, 4))
    assert held.cached_tokens(prefix(1, 2)) == [0, 200]


def test_an_answer_is_cached_where_it_was_generated() -> None:
    held = index(1000, 1000)
    held.touch(0, prefix(1, 2))
    held.touch(0, prefix(1, 2), answer_tokens=150)
    held.touch(1, prefix(1, 2))
    # The client sends the answer (blocks 3 and 4) and a new question (5).
    next_turn = prefix(1, 2, 3, 4, 5, answer=(2, 4))
    assert held.cached_tokens(next_turn) == [400, 200]
    held.touch(0, next_turn)
    assert held.cached_tokens(next_turn) == [500, 200]
    assert held.cached_tokens(prefix(1, 2, 3, 4, 9, answer=(2, 4))) == [400, 200]


def test_an_answer_counts_only_behind_the_prompt_that_it_answered() -> None:
    held = index(1000)
    held.touch(0, prefix(1, 2), answer_tokens=150)
    assert held.cached_tokens(prefix(7, 3, 4, answer=(1, 2))) == [0]
    assert held.cached_tokens(prefix(1, 3, 4, answer=(1, 2))) == [100]


def test_an_answer_that_came_back_is_held_once() -> None:
    held = index(550)
    held.touch(0, prefix(1, 2), answer_tokens=200)
    held.touch(0, prefix(1, 2, 3, 4, 5, answer=(2, 4)))
    assert held.cached_tokens(prefix(1, 2, 3, 4, 5)) == [500]
    assert len(held) == 5


def test_a_replica_that_goes_is_forgotten_and_its_slot_used_again() -> None:
    held = index(1000, 1000)
    for slot in (0, 1):
        held.touch(slot, prefix(1, 2))
    held.touch(0, prefix(3), answer_tokens=10)
    held.remove_replica(0)
    assert held.cached_tokens(prefix(1, 2)) == [0, 200]
    assert len(held) == 2
    with pytest.raises(KeyError):
        held.touch(0, prefix(1))
    assert held.add_replica(1000) == 0
    assert held.cached_tokens(prefix(1, 2)) == [0, 200]
    assert held.add_replica(1000) == 2


def test_it_is_bounded_and_agrees_with_a_slow_one() -> None:
    """Compares random conversations with lists in which the last element is the most recently
    used."""
    rng = random.Random(3)
    capacities = (500, 900, 2000)
    held = index(*capacities)
    slow: list[list[int]] = [[], [], []]
    for _ in range(3000):
        conversation = rng.randrange(12)
        blocks = [conversation * 100 + i for i in range(rng.randrange(1, 9))]
        expected = []
        for cache in slow:
            count = 0
            while count < len(blocks) and blocks[count] in cache:
                count += 1
            expected.append(100 * count)
        assert held.cached_tokens(prefix(*blocks)) == expected
        slot = rng.randrange(3)
        cache = [block for block in slow[slot] if block not in blocks] + blocks[::-1]
        slow[slot] = cache[-(capacities[slot] // 100) :]
        held.touch(slot, prefix(*blocks))
    assert len(held) == len({block for cache in slow for block in cache})


def test_many_replicas_have_what_few_or_all_of_them_hold() -> None:
    held = index(*[10_000] * 300)
    for slot in range(300):
        held.touch(slot, prefix(1, 2, *range(100, 100 + slot // 50)))
    expected = [200 + 100 * (slot // 50) for slot in range(300)]
    assert held.cached_tokens(prefix(1, 2, *range(100, 110))) == expected
    assert held.cached_tokens(prefix(1, 5)) == [100] * 300
    for slot in range(0, 300, 7):
        held.touch(slot, prefix(7, 8, 9))
    assert held.cached_tokens(prefix(7, 8)) == [0 if slot % 7 else 200 for slot in range(300)]


def test_it_does_not_grow_with_the_prompts_it_has_seen() -> None:
    held = index(5000, 5000)
    for i in range(2000):
        held.touch(i % 2, prefix(*range(10 * i, 10 * i + 4)), answer_tokens=30)
    assert len(held) <= 2 * (5000 // 100 + 5000 // 430 + 1)


def test_what_one_index_holds_another_restores() -> None:
    held = index(1000)
    held.touch(0, prefix(1, 2, 3), answer_tokens=50)
    other = index(1000, 1000)
    other.restore(1, held.blocks(0))
    assert other.cached_tokens(prefix(1, 2, 3, 4)) == [0, 300]
    assert other.blocks(1) == held.blocks(0)


def test_what_is_restored_goes_before_what_was_used_since() -> None:
    held = index(1000)
    held.touch(0, prefix(1, 2))
    held.touch(0, prefix(3))
    other = index(400)
    other.touch(0, prefix(7, 8))
    other.restore(0, held.blocks(0))
    assert [other.cached_tokens(prefix(*blocks)) for blocks in ((7, 8), (3,))] == [[200], [100]]
    other.touch(0, prefix(9))
    assert other.cached_tokens(prefix(1)) == [0]
    other.touch(0, prefix(10))
    assert [other.cached_tokens(prefix(*blocks)) for blocks in ((7, 8), (3,))] == [[200], [0]]

import math

import pytest

from serving.dispatch.headroom import Headroom
from serving.placement import Capacity, Rates, ReplicaLoad
from tests.dispatch.setting import work

CAPACITY = Capacity(kv_cache_tokens=1000, max_num_seqs=4)
RATES = Rates(step_ms=10, step_ms_per_context_token=0.01)
"""Rates of 10 ms per step and 1 ms more for each 100 tokens of context."""


def replica(kv_tokens: int = 0, requests: int = 0) -> ReplicaLoad:
    load = ReplicaLoad(capacity=CAPACITY, rates=RATES)
    for i in range(requests):
        load.book(work(kv_tokens if i == 0 else 0), kv_tokens, 0.0)
    return load


def headroom(*replicas: ReplicaLoad, max_itl_ms: float = math.inf) -> Headroom:
    made = Headroom(CAPACITY, max_itl_ms)
    made.update(replicas)
    return made


def test_headroom_is_what_the_kv_cache_has_left() -> None:
    assert headroom(replica(700, 3)).tokens(0.0) == [300]


def test_a_full_batch_has_none_however_empty_the_cache() -> None:
    assert headroom(replica(4, 4)).tokens(0.0)[0] < 0


def test_an_idle_replica_takes_a_request_of_any_size() -> None:
    assert headroom(replica()).tokens(0.0)[0] > 10**9


def test_headroom_is_what_can_be_decoded_in_time() -> None:
    assert headroom(replica(400, 1), max_itl_ms=15).tokens(0.0) == [100]
    assert headroom(replica(400, 1), max_itl_ms=25).tokens(0.0) == [600]
    assert headroom(replica(), max_itl_ms=15).tokens(0.0)[0] > 10**9


@pytest.mark.parametrize("loads", [[], [(700, 3)], [(4, 4)], [(0, 0)], [(900, 1), (700, 3)]])
@pytest.mark.parametrize("tokens", [0.5, 300, 301, 5000])
@pytest.mark.parametrize("max_itl_ms", [15, math.inf])
def test_there_is_headroom_where_the_most_of_it_is_enough(
    loads: list[tuple[int, int]], tokens: float, max_itl_ms: float
) -> None:
    of_loads = headroom(*(replica(*load) for load in loads), max_itl_ms=max_itl_ms)
    assert of_loads.has(tokens, 0.0) is (max(of_loads.tokens(0.0), default=-1) >= tokens)


def test_used_is_memory_or_batch_whichever_is_fuller() -> None:
    assert headroom(replica(500, 1), replica(10, 3), replica()).used == 0.5 + 0.75

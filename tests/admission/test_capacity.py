from dataclasses import dataclass

import pytest

from serving.admission.capacity import Capacity, have_room, rooms_tokens, used
from tests.admission.fleet import Load

CAPACITY = Capacity(kv_cache_tokens=1000, max_num_seqs=4)


@dataclass
class Replica:
    load: Load
    capacity: Capacity = CAPACITY


@pytest.mark.parametrize(
    ("kv_tokens", "share"), [(1, 0.25), (250, 0.25), (500, 0.5), (1000, 1.0), (5000, 1.0)]
)
def test_a_share_is_of_memory_or_batch_whichever_is_more(kv_tokens: int, share: float) -> None:
    assert CAPACITY.share(kv_tokens) == share


def test_room_is_what_the_kv_cache_has_left() -> None:
    assert rooms_tokens([Replica(Load(kv_tokens=700, requests=3))], 0.0) == [300]


def test_a_full_batch_has_no_room_however_empty_the_cache() -> None:
    assert rooms_tokens([Replica(Load(kv_tokens=4, requests=4))], 0.0)[0] < 0


def test_an_idle_replica_takes_a_request_of_any_size() -> None:
    assert rooms_tokens([Replica(Load())], 0.0)[0] > 10**9


def test_room_is_what_can_be_decoded_in_time() -> None:
    in_time = Capacity(kv_cache_tokens=1000, max_num_seqs=4, max_itl_ms=15)
    assert rooms_tokens([Replica(Load(200, 1, context_tokens=400), in_time)], 0.0) == [100]
    assert rooms_tokens([Replica(Load(950, 1, context_tokens=400), in_time)], 0.0) == [50]
    assert rooms_tokens([Replica(Load(), in_time)], 0.0)[0] > 10**9


@pytest.mark.parametrize("loads", [[], [(700, 3)], [(4, 4)], [(0, 0)], [(900, 1), (700, 3)]])
@pytest.mark.parametrize("tokens", [0.5, 300, 301, 5000])
def test_there_is_room_where_the_most_of_it_is_enough(
    loads: list[tuple[int, int]], tokens: float
) -> None:
    replicas = [Replica(Load(kv_tokens, requests)) for kv_tokens, requests in loads]
    assert have_room(replicas, tokens, 0.0) is (
        max(rooms_tokens(replicas, 0.0), default=-1) >= tokens
    )


def test_used_is_memory_or_batch_whichever_is_fuller() -> None:
    assert used([Replica(Load(500, 1)), Replica(Load(10, 3)), Replica(Load())]) == 0.5 + 0.75

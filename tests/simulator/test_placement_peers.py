from collections.abc import Sequence

import pytest

from serving.placement.load import ReplicaLoad
from serving.placement.prefix import Prefix
from serving.placement.work import Work
from tests.bench.placement_peers import (
    AffinityFilter,
    CacheAware,
    DynamoCost,
    LeastPrefill,
    LMetric,
    RayPrefix,
)

WORK = Work(Prefix([1], [1600], 1600), 1600, 100)


def loads(*prefills: Sequence[int]) -> list[ReplicaLoad]:
    """A replica's load for each argument, with a request for each number of uncached tokens."""
    made = []
    for replica, tokens in enumerate(prefills):
        load = ReplicaLoad(f"replica-{replica}")
        for prompt in tokens:
            load.book(Work(Prefix([], [], prompt), prompt, 100), 0, 0.0)
        made.append(load)
    return made


@pytest.mark.parametrize(
    ("requests", "cached", "chosen"),
    [
        ((5, 0), (1600, 0), 0),
        ((5, 0), (800, 0), 1),
        ((80, 0), (1600, 0), 1),
        ((60, 0), (1600, 0), 0),
    ],
)
def test_cache_aware_leaves_a_match_only_when_far_above_the_mean(
    requests: tuple[int, int], cached: tuple[int, int], chosen: int
) -> None:
    made = loads(*([1] * count for count in requests))
    assert CacheAware().choose(WORK, made, cached, 0.0) == chosen


@pytest.mark.parametrize(
    ("prefill", "cached", "chosen"),
    [(17_000, 1600, 0), (19_000, 1600, 1), (17_000, 1200, 1)],
)
def test_the_affinity_filter_is_left_for_18_seconds(prefill: int, cached: int, chosen: int) -> None:
    policy = AffinityFilter(prefill_tokens_per_s=1000)
    assert policy.choose(WORK, loads([prefill], []), (cached, 0), 0.0) == chosen


def test_dynamo_adds_blocks_to_prefill_and_blocks_held() -> None:
    made = loads([1000], [])
    assert DynamoCost().choose(WORK, made, (1600, 0), 0.0) == 1
    assert DynamoCost().choose(WORK, loads([100], []), (1600, 0), 0.0) == 0


def test_ray_goes_by_the_match_whatever_the_load_and_by_the_tree_without() -> None:
    assert RayPrefix().choose(WORK, loads([9] * 50, []), (160, 0), 0.0) == 0
    policy = RayPrefix()
    made = loads([], [])
    first = policy.choose(WORK, made, (0, 0), 0.0)
    assert policy.choose(WORK, made, (0, 0), 0.0) == 1 - first


def test_lmetric_multiplies_by_the_batch_and_least_prefill_does_not() -> None:
    made = loads([1, 1, 1], [500])
    assert LMetric().choose(WORK, made, (0, 0), 0.0) == 1
    assert LeastPrefill().choose(WORK, made, (0, 0), 0.0) == 0


@pytest.mark.parametrize(("decay", "chosen"), [(0.0, 0), (8.0, 1)])
def test_with_decay_a_match_counts_less_where_prefill_waits(decay: float, chosen: int) -> None:
    made = loads([400], [])
    assert CacheAware(decay).choose(WORK, made, (1600, 0), 0.0) == chosen
    assert DynamoCost(decay).choose(WORK, made, (1600, 0), 0.0) == chosen

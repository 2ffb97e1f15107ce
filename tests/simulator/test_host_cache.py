"""What a simulated engine's main memory keeps of prompts."""

from serving.simulator.host_cache import HostCache

ENDS = [160, 320, 480]
"""Three stretches of ten blocks each."""


def put(cache: HostCache, *keys: int) -> None:
    for key in keys:
        cache.put(key, 10)


def test_it_finds_what_follows_the_cached_beginning() -> None:
    cache = HostCache(100, 16)
    put(cache, 1, 2)
    assert cache.find([1, 2, 3], ENDS, 0) == 20
    assert cache.find([1, 2, 3], ENDS, 1) == 20
    assert cache.find([1, 2, 3], ENDS, 2) == 20
    assert cache.find([4, 2, 3], ENDS, 0) == 0
    assert cache.find([4, 2, 3], ENDS, 1) == 20


def test_a_stretch_that_is_kept_in_part_ends_the_prefix() -> None:
    cache = HostCache(100, 16)
    cache.put(1, 10)
    cache.put(2, 5)
    assert cache.find([1, 2, 3], ENDS, 0) == 10
    cache.put(2, 10)
    assert cache.find([1, 2, 3], ENDS, 0) == 20


def test_the_least_recently_used_is_dropped_first_and_of_a_prefix_its_tail() -> None:
    cache = HostCache(40, 16)
    put(cache, 1, 2, 8, 9)
    cache.find([1, 2, 3], ENDS, 2)
    put(cache, 5)
    assert cache.find([1, 2, 3], ENDS, 0) == 20
    assert cache.find([8, 9], ENDS[:2], 0) == 0
    put(cache, 6, 7)
    assert cache.find([1, 2, 3], ENDS, 0) == 10

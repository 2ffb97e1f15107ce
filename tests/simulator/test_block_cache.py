from serving.simulator.block_cache import BlockCache, Piece


def keep(cache: BlockCache, *stretches: tuple[int, int]) -> list[Piece]:
    """Fills the cache like a sequence that computes these stretches (key and blocks)."""
    pieces = []
    for key, blocks in stretches:
        cache.take(blocks)
        piece = cache.keep(key, blocks)
        assert piece is not None
        pieces.append(piece)
    return pieces


def found(cache: BlockCache, hashes: list[int], ends_tokens: list[int]) -> list[int]:
    return [piece.blocks for piece in cache.find(hashes, ends_tokens)[0]]


def test_what_was_computed_is_found_as_far_as_prefixes_agree() -> None:
    cache = BlockCache(100)
    cache.release(keep(cache, (1, 4), (2, 4)), 0)
    assert found(cache, [1, 2, 3], [64, 128, 192]) == [4, 4]
    assert found(cache, [1, 9, 2], [64, 128, 192]) == [4]
    assert found(cache, [9, 1], [64, 128]) == []


def test_blocks_in_use_are_not_evicted() -> None:
    cache = BlockCache(10)
    held = keep(cache, (1, 4))
    cache.release(keep(cache, (2, 6)), 0)
    cache.take(6)
    assert found(cache, [1], [64]) == [4]
    assert found(cache, [2], [96]) == []
    cache.release(held, 6)
    assert cache.available == 10


def test_the_least_recently_used_goes_first_and_of_it_the_tail() -> None:
    cache = BlockCache(10)
    cache.release(keep(cache, (1, 3), (2, 2)), 0)
    cache.release(keep(cache, (3, 5)), 0)
    cache.take(3)
    assert found(cache, [1, 2], [48, 80]) == [2]
    assert found(cache, [3], [80]) == [5]


def test_being_used_again_saves_from_eviction() -> None:
    cache = BlockCache(10)
    cache.release(keep(cache, (1, 5)), 0)
    cache.release(keep(cache, (2, 5)), 0)
    pieces, _ = cache.find([1], [80])
    cache.hold(pieces)
    cache.release(pieces, 0)
    cache.take(5)
    assert found(cache, [1], [80]) == [5]
    assert found(cache, [2], [80]) == []


def test_a_stretch_shorter_than_a_block_has_none_and_does_not_end_the_match() -> None:
    cache = BlockCache(10)
    cache.release(keep(cache, (1, 2), (3, 3)), 0)
    pieces, stretches = cache.find([1, 2, 3], [35, 40, 80])
    assert [piece.key for piece in pieces] == [1, 3]
    assert stretches == 3


def test_the_same_blocks_computed_twice_at_once_are_kept_once() -> None:
    cache = BlockCache(10)
    held = keep(cache, (1, 4))
    cache.take(4)
    assert cache.keep(1, 4) is None
    cache.release([], 4)
    cache.release(held, 0)
    assert cache.available == 10

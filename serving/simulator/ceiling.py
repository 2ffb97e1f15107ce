"""An upper bound of the hit rate of any placement."""

from collections.abc import Iterable, Iterator

from serving.simulator.block_cache import BlockCache
from serving.simulator.request import Request
from serving.simulator.workload import Arrival

_BLOCK_TOKENS = 16
_UNBOUNDED_TOKENS = 1 << 50


def hit_rate_ceiling(
    arrivals: Iterable[Arrival], kv_cache_tokens: int = _UNBOUNDED_TOKENS
) -> float:
    """The cached share of all prompt tokens with one cache of `kv_cache_tokens` for all requests,
    each sent when the one before it has ended."""
    cache = BlockCache(kv_cache_tokens // _BLOCK_TOKENS, _BLOCK_TOKENS)
    cached = total = 0
    for request in _in_turn(arrivals):
        cached += _serve(cache, request)
        total += request.prompt_tokens
    return cached * _BLOCK_TOKENS / total if total else 0.0


def _serve(cache: BlockCache, request: Request) -> int:
    """Serves a request and returns the number of its prompt's blocks that were cached."""
    prefix = request.prefix
    pieces, stretches = cache.find(prefix.hashes, prefix.ends_tokens)
    hits = min(sum(piece.blocks for piece in pieces), (prefix.tokens - 1) // _BLOCK_TOKENS)
    cache.hold(pieces)
    answered_tokens = prefix.tokens + request.output_tokens - 1
    hashes = [*prefix.hashes[stretches:], request.answer_hash]
    ends_tokens = [*prefix.ends_tokens[stretches:], answered_tokens]
    begin = prefix.ends_tokens[stretches - 1] // _BLOCK_TOKENS if stretches else 0
    for key, end_tokens in zip(hashes, ends_tokens, strict=True):
        end = end_tokens // _BLOCK_TOKENS
        if pieces and pieces[-1].key == key:
            cache.take(end - begin - pieces[-1].blocks)
            pieces[-1].blocks = end - begin
        elif end > begin:
            cache.take(end - begin)
            piece = cache.keep(key, end - begin)
            if piece is None:
                cache.release((), end - begin)
            else:
                pieces.append(piece)
        begin = end
    cache.release(pieces, 0)
    return hits


def _in_turn(arrivals: Iterable[Arrival]) -> Iterator[Request]:
    for arrival in arrivals:
        turn: Request | None = arrival.request
        while turn is not None:
            yield turn
            turn = turn.next_turn

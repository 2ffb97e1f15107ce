"""Changes the number of requests of a load, or repeats it."""

import heapq
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from serving.placement.prefix import Prefix
from serving.simulator.request import Request, each_turn
from serving.simulator.workload import Arrival

_JITTER_S = 10.0
"""Longest delay of a copy after the original request."""

_COPY = 1 << 36
_REPEAT = 1 << 50
"""Distances between the hashes of a text and those of its copies, in the same play and in later
ones."""


def multiplied(arrivals: Iterable[Arrival], times: float, seed: int = 0) -> Iterator[Arrival]:
    """Multiplies the requests in the given time by `times`, as if there were more or fewer users of
    one kind. Copies of a request have prompts of their own: one set of copies shares among itself
    what the originals share, and nothing with these. Below 1, requests are dropped."""
    rng = random.Random(seed)
    waiting: list[tuple[float, int, Request]] = []
    order = 0
    for arrival in arrivals:
        while waiting and waiting[0][0] <= arrival.at_s:
            at_s, _, request = heapq.heappop(waiting)
            yield Arrival(at_s, request)
        for copy in range(int(times) + (rng.random() < times % 1)):
            at_s = arrival.at_s + (rng.random() * _JITTER_S if copy else 0.0)
            order += 1
            heapq.heappush(waiting, (at_s, order, other_text(arrival.request, copy * _COPY)))
    while waiting:
        at_s, _, request = heapq.heappop(waiting)
        yield Arrival(at_s, request)


def repeated(arrivals: Sequence[Arrival], times: int) -> Iterator[Arrival]:
    """Plays the arrivals `times` times, each time with prompts that no other play has."""
    if not arrivals:
        return
    span_s = arrivals[-1].at_s - arrivals[0].at_s
    period_s = span_s * (1 + 1 / max(len(arrivals) - 1, 1))
    for number in range(times):
        for arrival in arrivals:
            request = other_text(arrival.request, number * _REPEAT)
            yield Arrival(arrival.at_s + number * period_s, request)


def other_text(request: Request, offset: int) -> Request:
    """A request of equal lengths, with other hashes unless `offset` is 0."""
    if offset == 0:
        return request

    def other(turn: Request) -> Request:
        prefix = turn.prefix
        hashes = [block + offset for block in prefix.hashes]
        return replace(
            turn,
            prefix=Prefix(hashes, prefix.ends_tokens, prefix.tokens, prefix.answer),
            answer_hash=turn.answer_hash + offset,
            session=None if turn.session is None else f"{turn.session}/{offset}",
        )

    return each_turn(request, other)

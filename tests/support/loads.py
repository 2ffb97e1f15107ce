"""Loads of the simulator with a fixed number of requests, which arrive at random times."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from serving.simulator.request import Request
from serving.simulator.workload import (
    Arrival,
    PromptMaker,
    around,
    conversations,
    shared_prefix_requests,
)


def shared_prefixes(count: int, per_s: float, *, seed: int = 0, **load: Any) -> list[Arrival]:
    """The first `count` of `shared_prefix_requests`, which takes `load`, at `per_s` requests per
    second."""
    rng = random.Random(seed)
    requests = shared_prefix_requests(rng, **load)
    return list(poisson(list(islice(requests, count)), per_s, rng))


def unshared(
    count: int,
    per_s: float,
    *,
    prompt_tokens: int = 2000,
    output_tokens: int = 28,
    seed: int = 0,
) -> list[Arrival]:
    """Prompts that share nothing and are answered briefly, as in classification. Lengths are
    exponential around the means."""
    rng = random.Random(seed)
    maker = PromptMaker()
    requests = [
        Request(
            maker.extend(None, around(prompt_tokens, rng)),
            around(output_tokens, rng),
            maker.fresh(),
        )
        for _ in range(count)
    ]
    return list(poisson(requests, per_s, rng))


def sessions(count: int, per_s: float, *, seed: int = 0, **load: Any) -> list[Arrival]:
    """The first `count` of `conversations`, which takes `load`; `per_s` begin each second."""
    rng = random.Random(seed)
    firsts = conversations(rng, **load)
    return list(poisson(list(islice(firsts, count)), per_s, rng))


def poisson(requests: Iterable[Request], per_s: float, rng: random.Random) -> Iterator[Arrival]:
    """The requests at random times, so many a second on average."""
    at_s = 0.0
    for request in requests:
        at_s += rng.expovariate(per_s)
        yield Arrival(at_s, request)

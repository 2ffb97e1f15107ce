"""Generates loads: which request is sent when."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from serving.placement.prefix import Prefix
from serving.simulator.request import Request
from serving.simulator.shape import Shape

STRETCH_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request and the time at which it is sent; later turns follow their answers."""

    at_s: float
    request: Request


class PromptMaker:
    """Makes prefixes, cut into stretches of 512 tokens whose hashes no other text has."""

    def __init__(self) -> None:
        self._last = 0

    def fresh(self) -> int:
        self._last += 1
        return self._last

    def extend(self, prefix: Prefix | None, tokens: int) -> Prefix:
        """The prefix followed by `tokens` of new text."""
        prefix = prefix or Prefix([], [], 0)
        hashes, ends_tokens, end = [*prefix.hashes], [*prefix.ends_tokens], prefix.tokens
        total = end + tokens
        while end < total:
            end = min(end + STRETCH_TOKENS, total)
            hashes.append(self.fresh())
            ends_tokens.append(end)
        return Prefix(hashes, ends_tokens, total, prefix.answer)


def answered(request: Request) -> Prefix:
    """The prompt followed by its answer, with which the next turn begins."""
    prefix = request.prefix
    total = prefix.tokens + request.output_tokens
    hashes = [*prefix.hashes, request.answer_hash]
    ends_tokens = [*prefix.ends_tokens, total]
    return Prefix(hashes, ends_tokens, total, answer=(len(hashes) - 1, len(hashes)))


def shared_prefix_requests(
    rng: random.Random,
    *,
    prefixes: int = 150,
    users: int = 5,
    prefix_tokens: int = 6000,
    question_tokens: int = 1200,
    output_tokens: int = 1000,
    hot_share: float = 0.0,
) -> Iterator[Request]:
    """The published load of 150 customers x 5 users, without end: a context per customer and a
    question per user, each asked again and again in random order. A share `hot_share` of all
    requests is one customer's, with new questions."""
    maker = PromptMaker()
    contexts = [maker.extend(None, prefix_tokens) for _ in range(prefixes)]
    prompts = [maker.extend(context, question_tokens) for context in contexts for _ in range(users)]
    while True:
        hot = rng.random() < hot_share
        prompt = maker.extend(contexts[0], question_tokens) if hot else rng.choice(prompts)
        yield Request(prompt, output_tokens, maker.fresh())


def conversations(
    rng: random.Random,
    *,
    turns: int = 6,
    system_prompts: int = 8,
    system_tokens: int = 1500,
    question_tokens: int = 300,
    output_tokens: int = 250,
    think_s: float = 8.0,
) -> Iterator[Request]:
    """The first turns of endlessly many conversations. Lengths and pauses are exponential around
    the means, the number of turns is uniform from one to twice the mean. Each answer is a part of
    the next prompt."""
    maker = PromptMaker()
    systems = [maker.extend(None, system_tokens) for _ in range(system_prompts)]
    for number in itertools.count():
        chain: list[Request] = []
        prefix = rng.choice(systems)
        for _ in range(rng.randint(1, 2 * turns - 1)):
            prompt = maker.extend(prefix, around(question_tokens, rng))
            chain.append(
                Request(prompt, around(output_tokens, rng), maker.fresh(), session=f"s{number}")
            )
            prefix = answered(chain[-1])
        first = chain.pop()
        while chain:
            first = replace(chain.pop(), next_turn=first, think_s=rng.expovariate(1 / think_s))
        yield first


def shaped(requests: Iterable[Request], shape: Shape, rng: random.Random) -> Iterator[Arrival]:
    """Sends requests at random times, at the rate of the shape, until it ends."""
    at_s = 0.0
    for request in requests:
        at_s += rng.expovariate(shape.most_per_s)
        while at_s <= shape.seconds and rng.random() * shape.most_per_s > shape.per_s(at_s):
            at_s += rng.expovariate(shape.most_per_s)
        if at_s > shape.seconds:
            return
        yield Arrival(at_s, request)


def faster(arrivals: Sequence[Arrival], times: float) -> list[Arrival]:
    return [Arrival(arrival.at_s / times, arrival.request) for arrival in arrivals]


def around(mean: int, rng: random.Random) -> int:
    """A whole number of at least 1, exponentially distributed around the mean."""
    return max(1, round(rng.expovariate(1 / mean)))

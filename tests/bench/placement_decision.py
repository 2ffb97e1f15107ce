"""What a placement decision costs the router: CPU time in microseconds, and memory.

`python -m tests.bench.placement_decision` takes the least of many repetitions of each step in this
process, so that other load hardly shows: 64 loaded replicas, prompts of which one replica has all
but the last turn, and prompts that none has seen.
"""

import resource
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from serving.placement import (
    Capacity,
    Fleet,
    LeastCost,
    Prefix,
    PrefixIndex,
    ReplicaLoad,
    Work,
    prefix_of,
    prompt_parts,
)

CHAT = "/v1/chat/completions"
REPLICAS = 64
KV_TOKENS = 145_000
CASES = {
    "1 kB, 1 message": (1_000, 1),
    "32 kB, 1 message": (32_000, 1),
    "32 kB, 20 messages": (32_000, 20),
    "220 kB, 1 message": (220_000, 1),
    "220 kB, 20 messages": (220_000, 20),
}
DISTINCT_PROMPTS = 200_000


def body(text_bytes: int, messages: int, tag: int) -> dict[str, Any]:
    size = text_bytes // messages
    text = (f"{tag} " + "The quick brown fox jumps over it.\n" * (size // 35 + 1))[:size]
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i in range(messages)]}


def prefix(request: dict[str, Any]) -> Prefix:
    return prefix_of(prompt_parts(CHAT, request, tools_first=False))


def work_of(chain: Prefix) -> Work:
    return Work(chain, chain.tokens, 300)


def microseconds(step: Callable[[], object], repetitions: int = 300) -> float:
    best = float("inf")
    for _ in range(repetitions):
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return 1e6 * best


class Router:
    """A fleet in the middle of its work: on each replica eight requests decode and two wait."""

    def __init__(self) -> None:
        self.fleet = Fleet(LeastCost())
        for number in range(REPLICAS):
            self.fleet.add(f"replica-{number}", Capacity(KV_TOKENS, 256))
        self.replicas = list(self.fleet.loads.values())
        for number, load in enumerate(self.replicas):
            for i in range(10):
                work = work_of(prefix(body(8_000, 4, 1000 * number + i)))
                booking = self.fleet.book(work, *self.fleet.choose(work, [load], 0.0), 0.0)
                if i < 8:
                    self.fleet.first_token(booking, 0.1)

    def decide(self, work: Work) -> tuple[ReplicaLoad, int]:
        return self.fleet.choose(work, self.replicas, 0.2)

    def book_and_end(self, work: Work, load: ReplicaLoad, cached_tokens: int) -> None:
        """Times a decision including its change of the index."""
        self.fleet.end(self.fleet.book(work, load, cached_tokens, 0.2), 0.2)


def decision_table() -> Table:
    table = Table(
        "request",
        "blocks",
        "chain",
        "decide",
        "book, end",
        "all",
        "new: all",
        title=f"µs a decision among {REPLICAS} replicas",
    )
    for name, (text_bytes, messages) in CASES.items():
        router = Router()
        request = body(text_bytes, messages, 1)
        chain = prefix(request)
        work = work_of(chain)
        chosen = router.decide(work)
        router.book_and_end(work, *chosen)
        steps = (
            microseconds(lambda: prefix(request)),  # noqa: B023
            microseconds(lambda: router.decide(work_of(chain))),  # noqa: B023
            microseconds(lambda: router.book_and_end(work, *chosen)),  # noqa: B023
        )
        table.add_row(
            name,
            str(len(chain.hashes)),
            *(f"{step:.1f}" for step in (*steps, sum(steps), new_prompt(text_bytes, messages))),
        )
    return table


def new_prompt(text_bytes: int, messages: int) -> float:
    """Times a decision, from the body to the touched index, on a prompt that no replica has
    seen."""
    router = Router()
    requests = iter([body(text_bytes, messages, 10_000 + i) for i in range(200)])

    def decide() -> None:
        work = work_of(prefix(next(requests)))
        router.book_and_end(work, *router.decide(work))

    return microseconds(decide, 200)


def memory_table() -> Table:
    table = Table(
        "distinct prompts",
        "blocks held",
        "peak RSS, MB",
        title=f"{REPLICAS} replicas of {KV_TOKENS:,} tokens, prompts of 4 kB",
    )
    index = PrefixIndex()
    for _ in range(REPLICAS):
        index.add_replica(KV_TOKENS)
    for i in range(1, DISTINCT_PROMPTS + 1):
        index.touch(i % REPLICAS, prefix(body(4_000, 2, i)), answer_tokens=200)
        if i % (DISTINCT_PROMPTS // 8) == 0:
            rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            table.add_row(f"{i:,}", f"{len(index):,}", f"{rss_mb:.1f}")
    return table


def main() -> None:
    console = Console(width=max(Console().width, 130))
    console.print(decision_table())
    console.print(memory_table())


if __name__ == "__main__":
    main()

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
    Ended,
    FirstToken,
    Fleet,
    LeastCost,
    Placed,
    Prefix,
    PrefixIndex,
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
    """Of replicas in the middle of their work: eight requests decode on each, two wait."""

    def __init__(self) -> None:
        self.fleet = Fleet(LeastCost())
        self.replica_ids = [f"replica-{i}" for i in range(REPLICAS)]
        for number, replica_id in enumerate(self.replica_ids):
            self.fleet.add(replica_id, KV_TOKENS, 256)
            for i in range(10):
                work = work_of(prefix(body(8_000, 4, 1000 * number + i)))
                placed = self.fleet.decide(work, [replica_id], 0.0)
                self.fleet.apply(placed, 0.0)
                if i < 8:
                    self.fleet.apply(FirstToken(placed.request), 0.1)

    def decide(self, chain: Prefix) -> Placed:
        return self.fleet.decide(work_of(chain), self.replica_ids, 0.2)

    def book_and_end(self, placed: Placed) -> None:
        """With what it changes in the index."""
        self.fleet.apply(placed, 0.2)
        self.fleet.apply(Ended(placed.request), 0.2)


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
        placed = router.decide(chain)
        router.book_and_end(placed)
        steps = (
            microseconds(lambda: prefix(request)),  # noqa: B023
            microseconds(lambda: router.decide(chain)),  # noqa: B023
            microseconds(lambda: router.book_and_end(placed)),  # noqa: B023
        )
        table.add_row(
            name,
            str(len(chain.hashes)),
            *(f"{step:.1f}" for step in (*steps, sum(steps), new_prompt(text_bytes, messages))),
        )
    return table


def new_prompt(text_bytes: int, messages: int) -> float:
    """A decision, from the body to the touched index, on a prompt that no replica has seen."""
    router = Router()
    requests = iter([body(text_bytes, messages, 10_000 + i) for i in range(200)])

    def decide() -> None:
        router.book_and_end(router.decide(prefix(next(requests))))

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

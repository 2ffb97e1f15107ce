"""What replaying the hottest prefixes to a replica that joins would gain, in simulated time.

`python -m tests.bench.replay` runs two loads of `tests.bench.placement` on eight replicas that a
ninth joins. The service replays nothing; here the prefixes that most requests of the last minute
have in common are sent to the newcomer as it joins, as many as it reads within a time. Reports,
asserts nothing.
"""

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, product

from rich.console import Console

from serving import dispatch
from serving.catalogue.rates import first_rates
from serving.placement import Prefix, Work
from serving.simulator.replicas import Replica
from serving.simulator.request import Outcome, Request
from serving.simulator.result import quantile
from serving.simulator.simulation import NO_REPLICA, Simulation
from tests.bench.placement import (
    ENTRY,
    JOIN_S,
    JOINS,
    OUTPUT_TOKENS,
    POLICIES,
    REPLICAS,
    SPEC,
    TRACES,
    WINDOW_S,
    arrivals,
)
from tests.bench.relay_report import new_table
from tests.support.summary import hit_rate

REPLAYS_S = (0.0, 2.0, 5.0, 10.0, 20.0)
"""Times in which the newcomer reads what is replayed to it."""
SEEDS = range(4)
WINDOWS = 3
_RECENT_S = 60.0
_REPLAY = "replay"
"""The session of replayed requests."""


class Replaying(Simulation):
    replay_s = 0.0

    def _join(self, replica: Replica, now_s: float) -> None:
        super()._join(replica, now_s)
        recent = [one.request.prefix for one in self._outcomes if one.sent_s > now_s - _RECENT_S]
        tokens = self.replay_s * first_rates(ENTRY)().prefill_tokens_per_s
        for prefix in hottest(recent, tokens):
            request = Request(prefix, 1, hash((_REPLAY, prefix.hashes[-1])), session=_REPLAY)
            asked = dispatch.Request(Work(prefix, prefix.tokens, 1))
            reservation = self.dispatchers[0].place(asked, replica.replica_id, now_s)
            self._waiting[reservation] = Outcome(request, now_s, NO_REPLICA)
        self._poll(0, now_s)


def hottest(prompts: list[Prefix], tokens: float) -> list[Prefix]:
    """Returns the parts of prompts that more than one has, the most frequent first, up to that many
    tokens."""
    count = Counter(chain.from_iterable(prompt.hashes for prompt in prompts))
    shared: dict[int, Prefix] = {}
    for prompt in prompts:
        blocks = sum(count[block] > 1 for block in prompt.hashes)
        if blocks:
            ends = prompt.ends_tokens[:blocks]
            shared[prompt.hashes[blocks - 1]] = Prefix(prompt.hashes[:blocks], ends, ends[-1])
    found: list[Prefix] = []
    for prefix in sorted(shared.values(), key=lambda one: -count[one.hashes[-1]]):
        if (tokens := tokens - prefix.tokens) < 0:
            break
        found.append(prefix)
    return found


def simulate(load: int, replay_s: float, seed: int) -> list[Outcome]:
    run = JOINS[load]
    simulation = Replaying(
        SPEC,
        REPLICAS,
        POLICIES[run.policy],
        first_rates(ENTRY),
        output_tokens=OUTPUT_TOKENS[run.load],
        joins_s=run.joins_s,
    )
    simulation.replay_s = replay_s
    sent = [
        one
        for one in arrivals(run.load, run.rate, seed, TRACES, 0)
        if one.at_s < JOIN_S + WINDOWS * WINDOW_S
    ]
    outcomes = simulation.run(sent, until_s=JOIN_S + WINDOWS * WINDOW_S).outcomes
    return [one for one in outcomes if one.request.session != _REPLAY]


def cells(outcomes: list[Outcome]) -> list[str]:
    """Returns the hit rates of the newcomer and of the others for each `WINDOW_S` after it joined,
    and the median and p99 of all times to first token since then."""
    found = []
    after = [one for one in outcomes if one.sent_s >= JOIN_S]
    for number in range(WINDOWS):
        begin_s = JOIN_S + number * WINDOW_S
        sent = [one for one in after if begin_s <= one.sent_s < begin_s + WINDOW_S]
        joined = hit_rate([one for one in sent if one.replica >= REPLICAS])
        others = hit_rate([one for one in sent if one.replica < REPLICAS])
        found.append(f"{joined:.0%} and {others:.0%}")
    waits_ms = sorted(1000 * one.ttft_s for one in after if one.ttft_s is not None)
    return [*found, f"{quantile(waits_ms, 0.5):.0f}, {quantile(waits_ms, 0.99):.0f}"]


def main() -> None:
    windows = [f"until {(number + 1) * WINDOW_S:.0f} s" for number in range(WINDOWS)]
    runs = list(product(range(len(JOINS)), REPLAYS_S, SEEDS))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(runs, pool.map(simulate, *zip(*runs, strict=True)), strict=True))
    for load, run in enumerate(JOINS):
        title = f"{run.load}, {run.rate:g} a second: hit rates of the newcomer and of the others"
        table = new_table(title, "replay, s", *windows, "TTFT p50, p99, ms")
        for replay_s in REPLAYS_S:
            outcomes = chain.from_iterable(results[load, replay_s, seed] for seed in SEEDS)
            table.add_row(f"{replay_s:g}", *cells(list(outcomes)))
        Console(width=130).print(table)


if __name__ == "__main__":
    main()

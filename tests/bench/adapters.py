"""How often requests find their LoRA adapters loaded, beside other routers' rules, in simulated
time.

`python -m tests.bench.adapters` asks for adapters by Zipf's law on 8 simulated replicas of a 24B
model in BF16, each on two H100s. An ideal placement has all replicas' room as one.
"""

import argparse
import itertools
import os
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rich.console import Console

from serving.catalogue.rates import first_rates
from serving.placement.policies import Policy
from serving.simulator.adapters import AdaptersConfig, with_adapters
from serving.simulator.result import Slo
from serving.simulator.simulation import Simulation
from serving.simulator.workload import Arrival, shared_prefix_requests
from tests.bench.placement import ENTRY, OURS, POLICIES, REPLICAS, SPEC
from tests.bench.placement_peers import LoraAffinity
from tests.bench.relay_report import new_table
from tests.support.loads import poisson
from tests.support.summary import Summary, summary_of

_PROMPT = {"prefix_tokens": 1000, "question_tokens": 500, "output_tokens": 300}
_MAX_WAIT_S = 30.0
RULES: Mapping[str, Callable[[], Policy]] = {**POLICIES, "llm-d LoRA": LoraAffinity}


@dataclass(frozen=True, slots=True)
class Run:
    adapters: int
    rate: float
    """Requests a second."""
    policy: str

    @property
    def room(self) -> AdaptersConfig:
        return AdaptersConfig(count=self.adapters, max_loras=8, resident=32, load_ms=500)


def arrivals(run: Run, requests: int) -> list[Arrival]:
    dice = random.Random(1)
    sent = itertools.islice(shared_prefix_requests(dice, **_PROMPT), requests)
    return list(with_adapters(poisson(sent, run.rate, dice), run.room, 1))


def ideal_hits(adapters: Sequence[str], room: int) -> int:
    """Returns how many of the requests find their adapter in one room for all, which drops the one
    that was used least recently, as replicas do."""
    loaded: dict[str, None] = {}
    hits = 0
    for adapter in adapters:
        if adapter in loaded:
            hits += 1
            del loaded[adapter]
        elif len(loaded) >= room:
            del loaded[next(iter(loaded))]
        loaded[adapter] = None
    return hits


def simulate(run: Run, requests: int) -> tuple[Summary, float]:
    """Simulates a run, and returns its figures and the share of requests that found their adapter
    loaded."""
    admits = run.policy == OURS
    simulation = Simulation(
        SPEC,
        REPLICAS,
        RULES[run.policy],
        first_rates(ENTRY),
        output_tokens=_PROMPT["output_tokens"],
        max_wait_s=_MAX_WAIT_S,
        max_itl_ms=1000 * Slo().itl_s if admits else float("inf"),
        adapters=run.room,
    )
    result = simulation.run(arrivals(run, requests))
    assert simulation.loaded is not None
    return summary_of(result), 1 - simulation.loaded.loads / len(result.outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    console = Console(width=max(Console().width, 110))
    cases = [(200, 8.0), (400, 8.0), (200, 24.0)]
    runs = [Run(*case, policy) for case in cases for policy in RULES]
    with ProcessPoolExecutor(args.processes) as pool:
        results = dict(
            zip(runs, pool.map(simulate, runs, [args.requests] * len(runs)), strict=True)
        )
    for adapters, rate in cases:
        sample = Run(adapters, rate, OURS)
        asked = [arrival.request.adapter for arrival in arrivals(sample, args.requests)]
        room = REPLICAS * sample.room.resident
        ideal = ideal_hits(asked, room) / len(asked)
        table = new_table(
            f"{adapters} adapters, room for {room}, {rate:g} requests/s; ideal {ideal:.1%}",
            "policy",
            *("loaded", "of ideal", "good", "TTFT p50 s", "p99 s"),
        )
        for policy in RULES:
            summary, share = results[Run(adapters, rate, policy)]
            table.add_row(
                policy,
                f"{share:.1%}",
                f"{share / ideal:.3f}",
                f"{summary.good_share:.1%}",
                f"{summary.ttft_p50_s:.3f}",
                f"{summary.ttft_p99_s:.2f}",
            )
        console.print(table)


if __name__ == "__main__":
    main()

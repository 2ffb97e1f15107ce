"""How well the router places requests, beside other routers' rules, in simulated time.

`python -m tests.bench.placement` runs loads from idle to past saturation on 8 simulated replicas of
a 24B model in BF16, each on two H100s, with each policy; then sessions, a hot prefix, a replica
that joins, and several routers. The policies see the same ledger and the same index.
"""

import argparse
import dataclasses
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rich.console import Console

from serving import catalogue
from serving.catalogue.rates import first_rates
from serving.placement.least_cost import LeastCost
from serving.placement.policies import LeastTokens, Policy, PowerOfTwo, RoundRobin
from serving.simulator import workload
from serving.simulator.ceiling import hit_rate_ceiling
from serving.simulator.result import Slo
from serving.simulator.simulation import Simulation
from serving.simulator.spec import engine_spec
from serving.simulator.trace import read_trace
from serving.simulator.workload import Arrival
from tests.bench import placement_report
from tests.bench.placement_peers import (
    AffinityFilter,
    CacheAware,
    DynamoCost,
    LeastPrefill,
    LMetric,
    RayPrefix,
)
from tests.bench.spread import ObservedSpread
from tests.support import loads
from tests.support.summary import Summary, hit_rate, mean, summary_of

TRACES = Path(__file__).parents[3] / "shared" / "traces"
MOONCAKE = Path("mooncake") / "conversation_trace.jsonl.gz"
REPLICAS = 8
ENTRY = catalogue.load("mistral-small-3.2-24b-instruct-2506", "bf16-tp2")
SPEC = engine_spec(ENTRY)

OURS = "ours"
"""Least cost behind the router's admission, which knows the objectives. With the other policies
requests wait in the engines."""
POLICIES: dict[str, Callable[[], Policy]] = {
    OURS: LeastCost,
    "cost alone": LeastCost,
    "smg": CacheAware,
    "smg+d": lambda: CacheAware(overlap_decay=0.5),
    "llm-d": lambda: AffinityFilter(SPEC.step_time.prefill_tokens_per_s),
    "Dynamo": DynamoCost,
    "Dynamo+d": lambda: DynamoCost(decay=0.5),
    "Ray": RayPrefix,
    "LMetric": LMetric,
    "LPWL": LeastPrefill,
    "tokens": LeastTokens,
    "of two": lambda: PowerOfTwo(seed=0),
    "in turn": RoundRobin,
}


@dataclass(frozen=True, slots=True)
class Run:
    """A load at a rate under a policy. `rate` is requests (or sessions) per second or, for a trace,
    the factor by which it is faster than recorded."""

    load: str
    rate: float
    policy: str
    seed: int = 0
    routers: int = 1
    lag_s: float | None = None
    joins_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Ladder:
    load: str
    title: str
    rates: tuple[float, ...]
    seeds: int = 1
    """Number of times that each load is run with other random numbers or, for a trace, with other
    parts and shifts. The means are shown."""

    def runs(self) -> Iterator[Run]:
        for rate in self.rates:
            for policy in POLICIES:
                for seed in range(self.seeds):
                    yield Run(self.load, rate, policy, seed)

    def means(self, summaries: Mapping[Run, Summary]) -> dict[tuple[float, str], Summary]:
        """The results by rate and policy."""
        return {
            (rate, policy): mean(
                [summaries[Run(self.load, rate, policy, seed)] for seed in range(self.seeds)]
            )
            for rate in self.rates
            for policy in POLICIES
        }


SHARED = Ladder("shared", "150 prefixes x 5 users", (3, 8, 14, 16, 17, 18, 20, 24), seeds=4)
TRACE = Ladder(
    "mooncake", "Mooncake conversation trace, times faster", (0.5, 1, 1.5, 2, 2.5), seeds=6
)
_TRACE_PARTS = 2
_SHIFT_S = 0.05
SESSIONS = Ladder("sessions", "Sessions of 6 turns, sessions a second", (4, 16))
HOT = Ladder("hot", "As the first, half of all requests with one prefix", (3, 14, 17), seeds=4)
UNSHARED = Ladder(
    "unshared", "Prompts of about 2,000 tokens that share nothing, short answers", (55, 65), seeds=2
)
JOIN_S = 60.0
JOIN = Run("shared", 14, OURS, joins_s=(JOIN_S,))
JOINS = (JOIN, Run("sessions", 12, OURS, joins_s=(JOIN_S,)))
WINDOW_S, WINDOWS = 20.0, 5
ROUTERS = [
    Run("sessions", 16, OURS),
    *(
        Run("sessions", 16, OURS, routers=n, lag_s=lag_s)
        for n in (4, 8)
        for lag_s in (0.01, 0.1, None)
    ),
]
OUTPUT_TOKENS = {"shared": 1000, "hot": 1000, "sessions": 250, "unshared": 28, "mooncake": 343}
"""The answer length that the routers expect: the mean of the load."""


@lru_cache(maxsize=2)
def arrivals(load: str, rate: float, seed: int, trace: Path, limit: int) -> list[Arrival]:
    match load:
        case "shared":
            return loads.shared_prefixes(3000, rate, seed=seed)
        case "hot":
            return loads.shared_prefixes(3000, rate, hot_share=0.5, seed=seed)
        case "sessions":
            return loads.sessions(1000, rate, seed=seed)
        case "unshared":
            return loads.unshared(6000, rate, seed=seed)
        case _:
            part = seed % _TRACE_PARTS
            of_part = read_trace(trace, (part + 1) * limit)[part * limit :]
            return _shifted(workload.faster(of_part, rate), seed // _TRACE_PARTS)


def _shifted(arrivals: list[Arrival], seed: int) -> list[Arrival]:
    """Shifts each arrival by up to `_SHIFT_S`, except with seed 0: policies that are about equal
    differ by chance, of which a trace has no second sample."""
    if not seed:
        return arrivals
    rng = random.Random(seed)
    shifted = [
        dataclasses.replace(arrival, at_s=max(0.0, arrival.at_s + rng.uniform(-_SHIFT_S, _SHIFT_S)))
        for arrival in arrivals
    ]
    return sorted(shifted, key=lambda arrival: arrival.at_s)


def simulate(run: Run, trace: Path, limit: int) -> tuple[Summary, float]:
    """Simulates a run, and returns its figures and the joining replica's share of the requests. If
    a replica joins, only the next 100 requests count."""
    slo, admits = Slo(), run.policy == OURS
    simulation = ObservedSpread(
        SPEC,
        REPLICAS,
        POLICIES[run.policy],
        first_rates(ENTRY),
        output_tokens=OUTPUT_TOKENS[run.load],
        routers=run.routers,
        lag_s=run.lag_s,
        joins_s=run.joins_s,
        max_wait_s=slo.ttft_s if admits else None,
        max_itl_ms=1000 * slo.itl_s if admits else math.inf,
    )
    result = simulation.run(arrivals(run.load, run.rate, run.seed, trace, limit))
    if run.joins_s:
        after = [o for o in result.outcomes if o.sent_s > run.joins_s[0]]
        result = dataclasses.replace(result, outcomes=after[:100])
    joined = sum(outcome.replica >= REPLICAS for outcome in result.outcomes)
    return summary_of(result, simulation.spread), joined / len(result.outcomes)


def hit_rates(run: Run, trace: Path, limit: int) -> list[tuple[float, float, float]]:
    """Returns the hit rates of the others and of a replica that has joined, for each `WINDOW_S`
    since then, and when these end, in seconds."""
    (joins_s,) = run.joins_s
    policy, rates = POLICIES[run.policy], first_rates(ENTRY)
    expected = OUTPUT_TOKENS[run.load]
    simulation = Simulation(
        SPEC, REPLICAS, policy, rates, output_tokens=expected, joins_s=run.joins_s
    )
    outcomes = simulation.run(arrivals(run.load, run.rate, run.seed, trace, limit)).outcomes
    found = []
    for number in range(WINDOWS):
        begin_s = joins_s + number * WINDOW_S
        sent = [one for one in outcomes if begin_s <= one.sent_s < begin_s + WINDOW_S]
        others = [one for one in sent if one.replica < REPLICAS]
        joined = [one for one in sent if one.replica >= REPLICAS]
        found.append(((number + 1) * WINDOW_S, hit_rate(others), hit_rate(joined)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES, metavar="DIR", help="public traces")
    parser.add_argument("--requests", type=int, default=6000, help="of each part of the trace")
    parser.add_argument("--quick", action="store_true", help="each load once")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    console = Console(width=max(Console().width, 130))
    trace = args.traces / MOONCAKE
    ladders = [SHARED, HOT, SESSIONS, UNSHARED]
    if trace.exists():
        ladders.insert(1, TRACE)
    else:
        console.print(f"[yellow]skipped: no trace at {trace}[/]")
    if args.quick:
        ladders = [dataclasses.replace(ladder, seeds=1) for ladder in ladders]
    runs = [*(run for ladder in ladders for run in ladder.runs()), JOIN, *ROUTERS]
    with (
        ProcessPoolExecutor(args.processes) as pool,
        console.status(f"{len(runs)} simulated runs"),
    ):
        count = len(runs)
        results = pool.map(simulate, runs, [trace] * count, [args.requests] * count)
        shown = dict(zip(runs, results, strict=True))
    summaries = {run: summary for run, (summary, _) in shown.items()}
    for ladder in ladders:
        ceilings = {}
        for rate in ladder.rates:
            sent = arrivals(ladder.load, rate, 0, trace, args.requests)
            ceilings[rate] = (
                hit_rate_ceiling(sent),
                hit_rate_ceiling(sent, REPLICAS * SPEC.kv_cache_tokens),
            )
        placement_report.show_ladder(console, ladder, ladder.means(summaries), ceilings)
    placement_report.show_join(console, shown[JOIN], REPLICAS)
    for run in JOINS:
        placement_report.show_hit_rates(console, run, hit_rates(run, trace, args.requests))
    placement_report.show_routers(console, [(run, summaries[run]) for run in ROUTERS])
    means = [(ladder, ladder.means(summaries)) for ladder in ladders]
    placement_report.show_goodput(console, OURS, means)


if __name__ == "__main__":
    main()

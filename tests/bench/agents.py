"""What agents get done while their sessions fill the caches once, twice and four times, in
simulated time.

`python -m tests.bench.agents` runs agents whose tasks are many turns over one growing context with
tools between them, on two replicas of a 24B model in BF16, each on two H100s, with our router and
with other routers' rules. `--traces FOLDER` plays recorded sessions in place of generated tasks:
those of callanjfox/kv-cache-tester, or of that format. Reports, asserts nothing.
"""

import argparse
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from serving.catalogue.rates import first_rates
from serving.simulator.ceiling import hit_rate_ceiling
from serving.simulator.request import Outcome
from serving.simulator.result import quantile
from serving.simulator.simulation import Simulation
from serving.simulator.spec import engine_spec
from serving.simulator.workload import Arrival
from tests.bench.agents_load import AgentsLoad, turns
from tests.bench.agents_peers import BoundedProgramAware, ProgramAware, ProgramAwareAtOnce
from tests.bench.agents_recorded import RecordedAgents, read_sessions
from tests.bench.placement import ENTRY, OURS, POLICIES, SPEC
from tests.bench.relay_report import new_table
from tests.support.summary import hit_rate

REPLICAS = 2
SUBSCRIPTIONS = (1, 2, 4)
"""Contexts of all agents' sessions, in caches."""
WARM_S, UNTIL_S = 600.0, 3600.0
TASKS = 60
"""More than an agent does in that time."""
MAX_WAIT_S = 600.0
LOAD = AgentsLoad()

PROGRAM_AWARE = {
    "program-aware": ProgramAware,
    "program-aware, at once": ProgramAwareAtOnce,
    "program-aware, bounded": BoundedProgramAware,
}
"""Behind each, placement is ours."""
HOST_KV_CACHE_GIB = 512
HOST_SPEC = engine_spec(ENTRY.model_copy(update={"host_kv_cache_gib": HOST_KV_CACHE_GIB}))
WITH_HOST = {f"{rule}, host KV cache": rule for rule in (OURS, "cost alone")}
"""Rules that are run, too, where each replica keeps KV cache in its main memory."""
RULES = (OURS, "cost alone", "smg", "llm-d", "Dynamo", "in turn", *PROGRAM_AWARE, *WITH_HOST)
"""With all but ours requests wait in the engines."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What ended while it was measured. `task_p50_s` is from a task's first request to its
    last answer; `fairness` is Jain's index of the agents' turns."""

    tasks_per_h: float
    turns_per_h: float
    task_p50_s: float
    task_p99_s: float
    hit_rate: float
    wait_p99_s: float
    wait_max_s: float
    fairness: float


@cache
def load(traces: Path | None) -> AgentsLoad | RecordedAgents:
    return LOAD if traces is None else RecordedAgents(read_sessions(traces))


def agents(subscription: float, traces: Path | None = None) -> list[Arrival]:
    source = load(traces)
    sample = [turn for arrival in source.agents(20, 20, seed=1) for turn in turns(arrival.request)]
    session_tokens = sum(turn.prompt_tokens + turn.output_tokens for turn in sample) / len(sample)
    caches_tokens = SPEC.kv_cache_tokens * REPLICAS
    return source.agents(round(subscription * caches_tokens / session_tokens), TASKS, seed=2)


def simulate(name: str, subscription: float, traces: Path | None = None) -> Figures:
    rule = WITH_HOST.get(name, name)
    simulation = PROGRAM_AWARE.get(rule, Simulation)(
        HOST_SPEC if name in WITH_HOST else SPEC,
        REPLICAS,
        POLICIES.get(rule, POLICIES[OURS]),
        first_rates(ENTRY),
        output_tokens=LOAD.output_tokens,
        max_wait_s=MAX_WAIT_S if rule == OURS else None,
    )
    arrivals = agents(subscription, traces)
    result = simulation.run(arrivals, until_s=UNTIL_S)
    return figures(result.outcomes, len(arrivals), WARM_S, UNTIL_S)


def figures(outcomes: Sequence[Outcome], agents: int, warm_s: float, until_s: float) -> Figures:
    began_s: dict[str, float] = {}
    tasks_s, waits_s, ended = [], [], []
    of_agents: Counter[str] = Counter()
    for outcome in outcomes:
        session = outcome.request.session or ""
        began_s[session] = min(began_s.get(session, outcome.sent_s), outcome.sent_s)
    for outcome in outcomes:
        if outcome.end_s is None or not warm_s < outcome.end_s <= until_s:
            continue
        session, following = outcome.request.session or "", outcome.request.next_turn
        ended.append(outcome)
        waits_s.append(outcome.ttft_s or 0.0)
        of_agents[session.split("/")[0]] += 1
        if following is None or following.session != session:
            tasks_s.append(outcome.end_s - began_s[session])
    tasks_s.sort()
    waits_s.sort()
    done = of_agents.values()
    return Figures(
        tasks_per_h=len(tasks_s) * 3600 / (until_s - warm_s),
        turns_per_h=len(ended) * 3600 / (until_s - warm_s),
        task_p50_s=quantile(tasks_s, 0.5),
        task_p99_s=quantile(tasks_s, 0.99),
        hit_rate=hit_rate(ended),
        wait_p99_s=quantile(waits_s, 0.99),
        wait_max_s=waits_s[-1],
        fairness=sum(done) ** 2 / (agents * sum(turns * turns for turns in done)),
    )


def table(title: str, found: Mapping[str, Figures]) -> Table:
    """Returns a row of figures for each rule."""
    columns = (
        "tasks/h",
        "turns/h",
        "task p50 s",
        "p99 s",
        "hit",
        "wait p99 s",
        "max s",
        "fairness",
    )
    shown = new_table(title, "rule", *columns)
    for rule, one in found.items():
        shown.add_row(
            rule,
            f"{one.tasks_per_h:.0f}",
            f"{one.turns_per_h:.0f}",
            f"{one.task_p50_s:.0f}",
            f"{one.task_p99_s:.0f}",
            f"{one.hit_rate:.1%}",
            f"{one.wait_p99_s:.1f}",
            f"{one.wait_max_s:.0f}",
            f"{one.fairness:.2f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--rules", nargs="*", default=RULES, choices=RULES)
    parser.add_argument("--traces", type=Path, help="folder of recorded sessions, one file each")
    args = parser.parse_args()
    console = Console(width=max(Console().width, 130))
    runs = [(rule, one) for one in SUBSCRIPTIONS for rule in args.rules]
    with ProcessPoolExecutor(args.processes) as pool, console.status(f"{len(runs)} runs"):
        figures_of_runs = pool.map(partial(simulate, traces=args.traces), *zip(*runs, strict=True))
        results = dict(zip(runs, figures_of_runs, strict=True))
    for subscription in SUBSCRIPTIONS:
        sent = agents(subscription, args.traces)
        title = (
            f"{len(sent)} agents, whose sessions fill the caches {subscription} x; an infinite "
            f"cache hits {hit_rate_ceiling(sent):.1%}"
        )
        console.print(table(title, {rule: results[rule, subscription] for rule in args.rules}))


if __name__ == "__main__":
    main()

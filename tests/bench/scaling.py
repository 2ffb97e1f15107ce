"""How many GPU-hours it takes to serve 99 % of a load within the objectives, in simulated time:
with the service's own scaling policy, with others, and with knowledge of the load.

`python -m tests.bench.scaling` runs each load with each policy at several values of its one setting
(ours: the share of a replica's time for prefill; the others: requests in flight per replica) and
shows the leanest that serves 99 % well. Placement, admission, engines and the first replicas are
the same for all.
"""

import argparse
import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from serving import catalogue
from serving.catalogue.rates import first_rates
from serving.placement import LeastCost
from serving.scaling import Decision, Observed, Scaler, ScalingConfig, ScalingPolicy
from serving.simulator.replicas import replica_hours
from serving.simulator.request import Outcome
from serving.simulator.run import without_collector
from serving.simulator.simulation import Autoscaling, Simulation
from serving.simulator.spec import engine_spec
from serving.simulator.workload import Arrival
from tests.bench.placement import TRACES
from tests.bench.scaling_clairvoyant import SLOT_S, Plan, plan, work_s
from tests.bench.scaling_loads import LOADS
from tests.bench.scaling_peers import Kpa, RayDefault
from tests.bench.scaling_report import Row, show

ENTRY = (
    catalogue.read("mistral-small-3.2-24b-instruct-2506")
    .entry("int4")
    .model_copy(update={"gpu": "L40S"})
)
"""A model on a small replica, for which a fleet needs fewer requests."""
SPEC = engine_spec(ENTRY)
STARTUP_S = 120.0
MAX_REPLICAS = 200

GOOD_SHARE = 0.99
TTFT_S = 2.0
ITL_S = 0.075
SLOWDOWN = 3.0
"""Factor on an idle replica's times: three times its time between tokens is 70 ms."""

OURS, RAY, KPA, CLAIRVOYANT = "ours", "Ray", "KPA", "clairvoyant"
POLICIES: dict[str, Callable[[float], Scaler]] = {
    OURS: lambda part: ScalingPolicy(
        ScalingConfig(max_replicas=MAX_REPLICAS, prefill_utilization=part)
    ),
    RAY: lambda target: RayDefault(target, MAX_REPLICAS),
    KPA: lambda target: Kpa(target, MAX_REPLICAS),
}
_PER_REPLICA = [round(40 / 1.2**i, 2) for i in range(20)]
SETTINGS: dict[str, Sequence[float]] = {
    OURS: [round(0.6 - 0.01 * i, 2) for i in range(43)],
    RAY: _PER_REPLICA,
    KPA: _PER_REPLICA,
}
"""The settings of each policy, the leanest first."""
WINDOWS_S = (300.0, 60.0, 1800.0)
TIMES = [round(1.05**i, 3) for i in range(6, 38)]
FIRST_S = 300.0
FIRST_UTILIZATION = 0.35
"""Determines, by the load's first minutes, the number of replicas at first, for all but the
clairvoyant."""
_NEIGHBOURS = 4
_FEW = 10
"""Number of requests in a minute below which its share of good ones is not reported."""


def good(outcome: Outcome) -> bool:
    """Whether an outcome meets the objectives. Its first token came within `TTFT_S`, or within
    `SLOWDOWN` times what an idle replica takes, as a prompt of 30,000 tokens takes 9 s there; and
    its last within that time and `ITL_S` for each further token. So a pause counts only if the
    tokens before it were not early enough to cover it for a reader."""
    if outcome.ttft_s is None or outcome.end_s is None:
        return False
    alone_s = SPEC.step_time.prefill_s(outcome.request.prompt_tokens, outcome.cached_tokens)
    limit_s = max(TTFT_S, SLOWDOWN * alone_s)
    answer_s = ITL_S * (outcome.request.output_tokens - 1)
    return outcome.ttft_s <= limit_s and outcome.end_s - outcome.sent_s <= limit_s + answer_s


@dataclass(slots=True)
class _Counting:
    """Counts the decisions that change something."""

    scaler: Scaler
    events: int = 0

    def decide(self, observed: Observed, now_s: float) -> Decision:
        decision = self.scaler.decide(observed, now_s)
        self.events += decision.replicas != observed.replicas
        return decision


class _TooManyBad(Exception):
    pass


def run(
    arrivals: Sequence[Arrival], scaler: Scaler, replicas: int, setting: float, abort: bool
) -> Row | None:
    """Simulates a load with a scaler, beginning with `replicas`. None: with `abort`, the run ended
    once less than 99 % could be good."""
    minutes = int(arrivals[-1].at_s / 60) + 1
    came, bad = [0] * minutes, [0] * minutes
    most_bad = (1 - GOOD_SHARE) * len(arrivals) if abort else math.inf

    def on_end(outcome: Outcome) -> None:
        minute = int(outcome.sent_s / 60)
        came[minute] += 1
        if not good(outcome):
            bad[minute] += 1
            if sum(bad) > most_bad:
                raise _TooManyBad

    counting = _Counting(scaler)
    simulation = Simulation(
        SPEC,
        replicas,
        LeastCost,
        first_rates(ENTRY),
        max_wait_s=TTFT_S,
        max_itl_ms=1000 * ITL_S,
        autoscaling=Autoscaling(counting, STARTUP_S),
        on_end=on_end,
    )
    try:
        result = simulation.run(arrivals)
    except _TooManyBad:
        return None
    return Row(
        setting=setting,
        good_share=1 - sum(bad) / len(arrivals),
        gpu_hours=replica_hours(result.replicas, result.end_s) * ENTRY.tensor_parallel_size,
        scale_events=counting.events,
        worst_minute=min(1 - b / n for b, n in zip(bad, came, strict=True) if n >= _FEW),
        replicas_most=max(sample.up for sample in result.samples),
    )


def leanest(settings: Sequence[float], run_with: Callable[[float, bool], Row | None]) -> Row:
    """The run with the first of the settings that serves 99 % well, found by halving, as if all
    settings after it did too. If none does, the run with the last."""
    low, high, best = 0, len(settings), None
    while low < high:
        middle = (low + high) // 2
        row = run_with(settings[middle], True)
        if row is None:
            low = middle + 1
        else:
            high, best = middle, row
    for leaner in range(
        max(0, high - _NEIGHBOURS), high
    ):  # chance makes some fail between good ones
        row = run_with(settings[leaner], True)
        if row is not None:
            return row
    best = best or run_with(settings[-1], False)
    assert best is not None
    return best


def by_policy(name: str, arrivals: Sequence[Arrival], settings: Sequence[float]) -> Row:
    work = work_s(arrivals, SPEC.step_time)[: round(FIRST_S / SLOT_S)]
    first = max(1, math.ceil(sum(work) / FIRST_S / FIRST_UTILIZATION))
    return leanest(
        settings,
        lambda setting, abort: run(arrivals, POLICIES[name](setting), first, setting, abort),
    )


def clairvoyant(arrivals: Sequence[Arrival]) -> Row:
    """The cheapest of the clairvoyant's plans, whose windows have one of several lengths."""
    work = work_s(arrivals, SPEC.step_time)
    best: Row | None = None
    for window_s in WINDOWS_S:
        plans = {times: plan(work, window_s, times, STARTUP_S) for times in TIMES}

        def run_with(times: float, abort: bool, plans: dict[float, Plan] = plans) -> Row | None:
            return run(arrivals, plans[times], plans[times].slots[0], times, abort)

        cheaper = [
            times
            for times in TIMES
            if best is None
            or plans[times].replica_hours * ENTRY.tensor_parallel_size < best.gpu_hours
        ]
        if cheaper:
            row = leanest(cheaper, run_with)
            if best is None or (row.good_share >= GOOD_SHARE and row.gpu_hours < best.gpu_hours):
                best = row
    assert best is not None
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES, metavar="DIR", help="public traces")
    parser.add_argument("--load", choices=[load.name for load in LOADS], help="only this one")
    parser.add_argument("--policy", choices=[CLAIRVOYANT, *POLICIES], help="only this one")
    parser.add_argument("--setting", type=float, help="of --policy, in place of the best")
    args = parser.parse_args()
    if args.setting is not None and args.policy not in POLICIES:
        parser.error(f"--setting is for --policy {', '.join(POLICIES)}")
    console = Console(width=max(Console().width, 130))
    for load in LOADS:
        if args.load not in (None, load.name):
            continue
        if load.trace is not None and not (args.traces / load.trace).exists():
            console.print(f"[yellow]skipped {load.name}: no trace at {args.traces / load.trace}[/]")
            continue
        arrivals = load.arrivals(args.traces)
        of_load: dict[str, Row] = {}
        for policy in [CLAIRVOYANT, *POLICIES]:
            if args.policy not in (None, policy):
                continue
            with without_collector(), console.status(f"{load.name}: {policy}"):
                if policy == CLAIRVOYANT:
                    of_load[policy] = clairvoyant(arrivals)
                else:
                    settings = SETTINGS[policy] if args.setting is None else [args.setting]
                    of_load[policy] = by_policy(policy, arrivals, settings)
            gc.collect()
        show(console, f"{load.title}: {len(arrivals):,} requests", of_load, CLAIRVOYANT)


if __name__ == "__main__":
    main()

"""How accurate and how fast the simulator is: `python -m tests.bench.simulator`.

The engine is compared with a measured run of vLLM. The speed is that of a thousand replicas in the
middle of their work, by a hundredth of the requests that `--full` sends.
"""

import argparse
import itertools
import random
import resource
import time
from pathlib import Path

from rich.console import Console

from serving.catalogue.rates import first_rates
from serving.placement import LeastCost
from serving.simulator.record import Record
from serving.simulator.result import Slo
from serving.simulator.run import without_collector
from serving.simulator.simulation import Autoscaling, Simulation
from serving.simulator.workload import shared_prefix_requests
from tests.bench.placement import ENTRY, SPEC, TRACES
from tests.bench.relay_report import new_table
from tests.bench.simulator_validation import TARGETS, by_data_sheet, by_step_times, validate
from tests.support.loads import poisson

REPLICAS = 1000
REQUESTS = 1_000_000
PER_REPLICA_S = 5.0
"""Requests per second, of 1,000 + 300 prompt tokens and 200 output tokens."""


def show_validation(console: Console, folder: Path) -> None:
    by_name = {
        "by its step times": validate(folder, by_step_times()),
        "by data sheet": validate(folder, by_data_sheet()),
    }
    table = new_table(
        "The engine beside a measured one (vLLM 0.19, Qwen3-32B, 2 x RTX PRO 6000, 300 requests)",
        "",
        *("measured, s", "target"),
        *(column for name in by_name for column in (f"{name}, s", "off")),
    )
    for figure, (measured, _) in next(iter(by_name.values())).figures.items():
        target = f"{TARGETS[figure]:.0%}" if figure in TARGETS else ""
        cells = []
        for validation in by_name.values():
            cells += [f"{validation.figures[figure][1]:.3f}", f"{validation.error(figure):+.1%}"]
        table.add_row(figure, f"{measured:.3f}", target, *cells)
    console.print(table)
    for name, validation in by_name.items():
        missed = validation.missed()
        console.print(f"{name}: {'misses ' + ', '.join(missed) if missed else 'meets the targets'}")
    console.print()


def show_speed(console: Console, replicas: int, requests: int) -> None:
    record = Record(Slo())
    simulation = Simulation(
        SPEC,
        replicas,
        LeastCost,
        first_rates(ENTRY),
        max_wait_s=30.0,
        autoscaling=Autoscaling(None),
        on_end=record.add,
    )
    asked = shared_prefix_requests(
        random.Random(0),
        prefixes=replicas,
        users=20,
        prefix_tokens=1000,
        question_tokens=300,
        output_tokens=200,
    )
    per_s = replicas * PER_REPLICA_S
    arrivals = poisson(itertools.islice(asked, requests), per_s, random.Random(1))
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with without_collector():
        simulation.run(arrivals)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    total = record.total()
    console.print(
        f"{replicas:,} replicas, {requests:,} requests: {wall_s:.0f} s, of these {cpu_s:.0f} on a "
        f"core; {1e6 * cpu_s / requests:.0f} us a request, {memory_gb:.2f} GB at most. "
        f"{total.good_share:.1%} good, {total.hit_rate:.1%} cached."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES, metavar="DIR", help="public traces")
    parser.add_argument("--replicas", type=int, default=REPLICAS)
    parser.add_argument("--requests", type=int, default=REQUESTS // 100)
    parser.add_argument("--full", action="store_true", help=f"{REQUESTS:,} requests")
    args = parser.parse_args()
    console = Console(width=max(Console().width, 130))
    measured = args.traces / "llmservingsim"
    if measured.exists():
        show_validation(console, measured)
    else:
        console.print(f"[yellow]skipped: no measured run at {measured}[/]")
    show_speed(console, args.replicas, REQUESTS if args.full else args.requests)


if __name__ == "__main__":
    main()

"""What batches get of the time that interactive requests leave, and what they cost these, in
simulated time: a part of `python -m tests.bench.admission`.

Eight replicas of a 24B model in BF16, each on two H100s, with a promised inter-token latency, serve
conversations for two minutes, alone and beside a batch that never ends. Reports, asserts nothing.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from serving import catalogue
from serving.catalogue.rates import first_rates
from serving.placement.least_cost import LeastCost
from serving.simulator.request import Outcome, Request
from serving.simulator.result import quantile
from serving.simulator.simulation import Simulation
from serving.simulator.spec import engine_spec
from serving.simulator.workload import Arrival, PromptMaker
from tests.bench.relay_report import new_table
from tests.support import loads

REPLICAS = 8
MAX_ITL_MS = 25.0
SECONDS = 120
WARM_S = 30
LINES = 9_000
"""More than the fleet answers in that time."""
SATURATING = 40.0
"""Sessions a second of which the fleet serves only a part."""
SESSIONS = (3.0, 8.0, 16.0)

ENTRY = catalogue.load("mistral-small-3.2-24b-instruct-2506", "bf16-tp2")
_FIRST_HASH = 1 << 40


@dataclass(frozen=True, slots=True)
class Figures:
    """Rates are of requests that ended, per second."""

    interactive_per_s: float
    batch_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p99_ms: float


def batch_lines(count: int) -> Iterator[Request]:
    """Requests with prompts of 800 tokens and answers of 300 on average, and nothing in common."""
    rng, maker = random.Random(9), PromptMaker()
    maker._last = _FIRST_HASH
    for _ in range(count):
        prompt = maker.extend(None, max(20, int(rng.expovariate(1 / 800))))
        output_tokens = max(1, int(rng.expovariate(1 / 300)))
        yield Request(prompt, output_tokens, maker.fresh(), background=True)


def simulate(sessions_per_s: float, lines: int) -> Figures:
    arrivals = [Arrival(0.0, request) for request in batch_lines(lines)]
    if sessions_per_s:
        sessions = loads.sessions(int(sessions_per_s * SECONDS * 1.1), sessions_per_s)
        arrivals += [arrival for arrival in sessions if arrival.at_s < SECONDS]
    simulation = Simulation(
        engine_spec(ENTRY),
        REPLICAS,
        LeastCost,
        first_rates(ENTRY),
        max_wait_s=30,
        max_itl_ms=MAX_ITL_MS,
    )
    outcomes = simulation.run(arrivals).outcomes
    interactive = [one for one in outcomes if not one.request.background]
    seen = [one for one in interactive if WARM_S <= one.sent_s < SECONDS and one.ttft_s is not None]
    ttfts_s = sorted(one.ttft_s or 0.0 for one in seen) or [0.0]
    itls_s = sorted(one.itl_s or 0.0 for one in seen) or [0.0]
    return Figures(
        _per_s(interactive),
        _per_s([one for one in outcomes if one.request.background]),
        1000 * quantile(ttfts_s, 0.5),
        1000 * quantile(ttfts_s, 0.99),
        1000 * quantile(itls_s, 0.99),
    )


def _per_s(outcomes: list[Outcome]) -> float:
    ended = [one for one in outcomes if one.end_s is not None and WARM_S <= one.end_s < SECONDS]
    return len(ended) / (SECONDS - WARM_S)


def batches_table(console: Console) -> None:
    """Idle is what is left of the highest rate of conversations; the batch's rate alone is how much
    it gets of a wholly idle fleet."""
    most_per_s = simulate(SATURATING, 0).interactive_per_s
    alone_per_s = simulate(0, LINES).batch_per_s
    table = new_table(
        f"A batch beside conversations, inter-token latency at most {MAX_ITL_MS:g} ms: "
        f"alone they have {most_per_s:.1f} and {alone_per_s:.1f} requests/s",
        *("conversations/s", "idle", "batch/s", "of the idle"),
        *("TTFT p50 ms", "with the batch", "p99 ms", "with the batch"),
        *("ITL p99 ms", "with the batch"),
    )
    for sessions_per_s in SESSIONS:
        without, beside = simulate(sessions_per_s, 0), simulate(sessions_per_s, LINES)
        idle = 1 - without.interactive_per_s / most_per_s
        table.add_row(
            f"{without.interactive_per_s:.1f}",
            f"{idle:.0%}",
            f"{beside.batch_per_s:.1f}",
            f"{beside.batch_per_s / (idle * alone_per_s):.0%}",
            *(f"{one.ttft_p50_ms:.0f}" for one in (without, beside)),
            *(f"{one.ttft_p99_ms:.0f}" for one in (without, beside)),
            *(f"{one.itl_p99_ms:.1f}" for one in (without, beside)),
        )
    console.print(table)


if __name__ == "__main__":
    batches_table(Console(width=max(Console().width, 130)))

"""Compares the simulated engine with the tiny model on a real vLLM.

The step times are fitted to requests that come one by one, and to batches that decode; then both
serve a small load that comes at random times. Any other work of the machine counts as vLLM's.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console

from serving import catalogue
from serving.catalogue.vllm_flags import vllm_flags
from serving.simulator.engine import Engine, EngineSpec
from serving.simulator.request import Request
from serving.simulator.step_time import StepTime
from serving.tiny import tiny_model_folder
from tests.bench.frontend_process import plain, wait_until_ready
from tests.bench.relay_process import HOST, MODEL
from tests.bench.relay_report import new_table
from tests.bench.simulator_validation import figures, prefix_of, run

ENTRY = "tiny-mistral-small-2501"
KV_CACHE_TOKENS = 175_000
MAX_NUM_BATCHED_TOKENS = 2048
MAX_NUM_SEQS = 64
FIRST_WORD, LAST_WORD = 1100, 8000
"""Token ids that are not special."""

PROMPTS = (32, 256, 1024, 2000)
BATCHES = ((1, 64), (1, 1500), (4, 64), (4, 1500), (12, 64), (12, 1500))
"""Pairs of a number of sequences and the tokens of their prompts."""
OUTPUT_TOKENS = 200
"""Length of a batch's answers, with which all its sequences decode at once for a while."""
REPEATS = 3
"""Repeats of each measurement, since the machine may have other work."""
MOST_TRIES = 12
"""Tries of a batch, whose sequences are not always seen to decode at the same time."""
SHARED_TOKENS, OWN_TOKENS, ANSWER_TOKENS = 512, 400, 48
"""Lengths of the load's four prefixes, and the means of the rest of a prompt and of answers."""


@dataclass(frozen=True, slots=True)
class Timing:
    sent_s: float
    tokens_s: list[float]
    """The times of the tokens of an answer."""

    @property
    def ttft_s(self) -> float:
        return self.tokens_s[0] - self.sent_s

    @property
    def tpot_s(self) -> float:
        return (self.tokens_s[-1] - self.tokens_s[0]) / (len(self.tokens_s) - 1)


@dataclass(frozen=True, slots=True)
class Batch:
    """The mean step time of sequences that decode together."""

    sequences: int
    context_tokens: float
    step_s: float


@dataclass(frozen=True, slots=True)
class Sent:
    at_s: float
    token_ids: list[int]
    output_tokens: int


def fit(prompts: Sequence[tuple[int, float]], batches: Sequence[Batch]) -> EngineSpec:
    """Fits an engine to measured times. `prompts` are pairs of a length and the time to first token
    of one alone."""
    step_s, sequence_s, kv_token_s = _non_negative(
        [(1.0, batch.sequences, batch.context_tokens) for batch in batches],
        [batch.step_s for batch in batches],
    )
    fixed_s, token_s, attention_s = _non_negative(
        [(1.0, tokens, tokens * tokens / 2) for tokens, _ in prompts],
        [ttft_s for _, ttft_s in prompts],
    )
    step_time = StepTime(
        prefill_tokens_per_s=1 / max(token_s, 1e-9),
        weights_s=0.0,
        kv_token_s=kv_token_s,
        attention_s=attention_s,
        overhead_s=step_s,
        sequence_s=max(sequence_s - token_s, 0.0),  # the products are those of any token
    )
    return EngineSpec(
        step_time,
        KV_CACHE_TOKENS,
        max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
        max_num_seqs=MAX_NUM_SEQS,
        async_scheduling=False,  # vLLM has none on a CPU
        request_overhead_s=max(fixed_s - step_time.overhead_s, 0.0),
    )


def _non_negative(rows: Sequence[tuple[float, ...]], values: Sequence[float]) -> list[float]:
    """The least squares of relative errors; a term that would be negative is dropped."""
    scale = 1 / np.array(values)
    matrix = np.array(rows, dtype=float) * scale[:, None]
    kept = list(range(matrix.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(matrix[:, kept], np.ones(len(values)), rcond=None)
        if min(found) >= 0 or len(kept) == 1:
            break
        del kept[int(np.argmin(found))]
    result = [0.0] * matrix.shape[1]
    for term, value in zip(kept, found, strict=True):
        result[term] = max(float(value), 0.0)
    return result


def load(rate: float, seconds: float, seed: int) -> list[Sent]:
    rng = random.Random(seed)
    shared = [_words(rng, SHARED_TOKENS) for _ in range(4)]
    sent = []
    at_s = rng.expovariate(rate)
    while at_s < seconds:
        own = min(round(rng.expovariate(1 / OWN_TOKENS)) + 1, 4 * OWN_TOKENS)
        output = min(round(rng.expovariate(1 / ANSWER_TOKENS)) + 2, 4 * ANSWER_TOKENS)
        sent.append(Sent(at_s, [*rng.choice(shared), *_words(rng, own)], output))
        at_s += rng.expovariate(rate)
    return sent


def simulated(spec: EngineSpec, sent: Sequence[Sent]) -> list[tuple[float, float]]:
    """TTFT and time per output token of each request."""
    requests = [
        (one.at_s, Request(prefix_of(one.token_ids), one.output_tokens, -1 - number))
        for number, one in enumerate(sent)
    ]
    outcomes = run(Engine(spec), requests)
    return [(outcome.ttft_s or 0.0, outcome.itl_s or 0.0) for outcome in outcomes]


async def stream(http: httpx.AsyncClient, token_ids: list[int], output_tokens: int) -> Timing:
    body = {
        "model": MODEL,
        "prompt": token_ids,
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    timing = Timing(time.perf_counter(), [])
    async with http.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                timing.tokens_s.append(time.perf_counter())
    return timing


async def sweep(
    http: httpx.AsyncClient, rng: random.Random
) -> tuple[list[tuple[int, float]], list[Batch]]:
    """Times an idle engine: one prompt after the other, then batches of sequences. All are means,
    since what else the machine does is in the load's times too.
    """
    for _ in range(3):
        await stream(http, _words(rng, 100), 8)
    prompts = []
    for tokens in PROMPTS:
        times = [(await stream(http, _words(rng, tokens), 1)).ttft_s for _ in range(REPEATS)]
        prompts.append((tokens, statistics.fmean(times)))
    batches = []
    for sequences, tokens in BATCHES:
        steps_s = list[float]()
        for _ in range(MOST_TRIES):
            together = [stream(http, _words(rng, tokens), OUTPUT_TOKENS) for _ in range(sequences)]
            found_s = step_s(await asyncio.gather(*together))
            if found_s is not None:
                steps_s.append(found_s)
            if len(steps_s) == REPEATS:
                break
        if not steps_s:
            raise RuntimeError(f"{sequences} sequences never decoded at the same time")
        context_tokens = sequences * (tokens + OUTPUT_TOKENS / 2)
        batches.append(Batch(sequences, context_tokens, statistics.fmean(steps_s)))
    return prompts, batches


def step_s(timings: Sequence[Timing]) -> float | None:
    """The mean time per step while all decode: from the last one's first token to the first one's
    last. None if they were never seen to decode together: where the engine uses all cores, the
    tokens of a stream arrive all at once."""
    begin_s = max(timing.tokens_s[0] for timing in timings)
    end_s = min(timing.tokens_s[-1] for timing in timings)
    spans = [
        (within[-1] - within[0], len(within) - 1)
        for within in ([t for t in one.tokens_s if begin_s <= t <= end_s] for one in timings)
        if len(within) > 1
    ]
    if not spans:
        return None
    return sum(span for span, _ in spans) / sum(steps for _, steps in spans)


async def play(http: httpx.AsyncClient, sent: Sequence[Sent]) -> list[Timing]:
    began_s = time.perf_counter()

    async def one(request: Sent) -> Timing:
        await asyncio.sleep(began_s + request.at_s - time.perf_counter())
        return await stream(http, request.token_ids, request.output_tokens)

    return await asyncio.gather(*map(one, sent))


def show(
    console: Console,
    spec: EngineSpec,
    measured: Sequence[Timing],
    simulated_s: Sequence[tuple[float, float]],
) -> None:
    time_of = spec.step_time
    console.print(
        f"fitted: {time_of.prefill_tokens_per_s:,.0f} prompt tokens/s, a step of "
        f"{1000 * time_of.overhead_s:.2f} ms, {1000 * time_of.sequence_s:.3f} ms a sequence, "
        f"{1e6 * time_of.kv_token_s:.3f} us a token of context, "
        f"{1000 * spec.request_overhead_s:.1f} ms a request"
    )
    ttfts = [(m.ttft_s, s[0]) for m, s in zip(measured, simulated_s, strict=True)]
    tpots = [(m.tpot_s, s[1]) for m, s in zip(measured, simulated_s, strict=True)]
    table = new_table("", "", "measured, ms", "simulated, ms", "off")
    for name, (real_s, found_s) in (figures("TTFT", ttfts) | figures("TPOT", tpots)).items():
        off = found_s / real_s - 1
        table.add_row(name, f"{1000 * real_s:.1f}", f"{1000 * found_s:.1f}", f"{off:+.1%}")
    console.print(table)


def _words(rng: random.Random, count: int) -> list[int]:
    return [rng.randint(FIRST_WORD, LAST_WORD) for _ in range(count)]


async def _measured(
    port: int, sent: Sequence[Sent], seed: int
) -> tuple[list[tuple[int, float]], list[Batch], list[Timing]]:
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=120) as http:
        rng = random.Random(seed)
        before = await sweep(http, rng)
        measured = await play(http, sent)
        after = await sweep(http, rng)
        return [*before[0], *after[0]], [*before[1], *after[1]], measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    args = parser.parse_args()
    console = Console(width=max(Console().width, 100))
    entry = catalogue.load(ENTRY)
    assert entry.embedded is not None
    flags = {
        **vllm_flags(entry),
        "model": str(tiny_model_folder(entry.embedded)),
        "max-num-batched-tokens": MAX_NUM_BATCHED_TOKENS,
        "max-num-seqs": MAX_NUM_SEQS,
    }
    sent = load(args.rate, args.seconds, args.seed)
    with (
        tempfile.TemporaryDirectory(prefix="simulator-tiny-") as folder,
        plain(flags, Path(folder) / "vllm.log") as server,
    ):
        wait_until_ready({"vLLM": server})
        prompts, batches, measured = asyncio.run(_measured(server.port, sent, args.seed))
    if args.json:
        facts = {"prompts": prompts, "batches": batches, "load": measured}
        args.json.write_text(json.dumps(facts, default=asdict))
    spec = fit(prompts, batches)
    load_average = os.getloadavg()[0]
    console.print(
        f"{len(sent)} requests in {args.seconds:g} s to {ENTRY} on {os.cpu_count()} cores, whose "
        f"load was {load_average:.1f}"
    )
    show(console, spec, measured, simulated(spec, sent))


if __name__ == "__main__":
    main()

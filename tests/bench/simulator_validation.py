"""The simulated engine beside a measured one: vLLM 0.19 with Qwen3-32B on two RTX PRO 6000.

The requests are those of the measured run. `by_data_sheet` is not fitted: it has the figures of
model and GPU with the efficiencies that the 24B engines use. The measured GPUs have no NVLink,
which no roofline knows; `by_step_times` has constants read off the throughput of the run, so that
what is left is the error of the scheduler.
"""

import gzip
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.catalogue.speed import speed_by_formula
from serving.placement.prefix import Prefix
from serving.simulator.engine import Engine, EngineSpec
from serving.simulator.request import Outcome, Request
from serving.simulator.result import quantile
from serving.simulator.spec import step_time
from tests.catalogue.networks import QWEN3_32B

_BLOCK_TOKENS = 16

TARGETS = {
    "TTFT median": 0.1,
    "TTFT p99": 0.2,
    "TPOT median": 0.1,
    "TPOT p99": 0.2,
}
"""The largest error allowed to the simulated engine."""


@dataclass(frozen=True, slots=True)
class Validation:
    figures: dict[str, tuple[float, float]]
    """A measured and a simulated time, in seconds."""

    def error(self, figure: str) -> float:
        measured, simulated = self.figures[figure]
        return simulated / measured - 1

    def missed(self) -> list[str]:
        """The targets that are not met."""
        return [figure for figure, most in TARGETS.items() if abs(self.error(figure)) > most]


def by_data_sheet() -> EngineSpec:
    """Qwen3-32B in BF16, tensor parallel over two GPUs, as the catalogue would have it."""
    speed = speed_by_formula(
        QWEN3_32B,
        weights_dtype="bf16",
        kv_cache_dtype="auto",
        gpu="RTX-PRO-6000",
        tensor_parallel_size=2,
    )
    return EngineSpec(
        step_time(speed), kv_cache_tokens=350_000, max_num_batched_tokens=2048, max_num_seqs=128
    )


def by_step_times() -> EngineSpec:
    """A full chunk takes 0.357 s with few sequences; 16, 46 and 128 that decode give 554, 1,187 and
    2,176 tokens a second.
    """
    spec = by_data_sheet()
    fitted = replace(
        spec.step_time, prefill_tokens_per_s=5850, weights_s=0.0231, sequence_s=0.000157
    )
    return replace(spec, step_time=fitted)


def validate(folder: Path, spec: EngineSpec) -> Validation:
    """`folder` has LLMServingSim's measured run. Raises FileNotFoundError where it is absent."""
    measured = _lines(folder / "vllm_RTXPRO6000_Qwen3-32B_requests.jsonl.gz")
    prompts = _lines(folder / "sharegpt-qwen3-32b-300-sps10.jsonl.gz")
    engine = Engine(spec)
    began_s = measured[0]["queued_ts"]
    sent = []
    for number, (row, prompt) in enumerate(zip(measured, prompts, strict=True)):
        request = Request(prefix_of(prompt["input_tok_ids"]), row["output_toks"], -1 - number)
        sent.append((row["queued_ts"] - began_s, request))
    outcomes = run(engine, sorted(sent, key=lambda pair: pair[0]))
    simulated = sorted(outcomes, key=lambda outcome: -outcome.request.answer_hash)
    pairs = list(zip(measured, simulated, strict=True))
    ttfts_s = [(_first(m) - m["queued_ts"], s.ttft_s or 0.0) for m, s in pairs]
    tpots_s = [(_tpot(m), s.itl_s or 0.0) for m, s in pairs if m["output_toks"] > 1]
    ends_s = (
        max(m["last_token_ts"] for m in measured) - began_s,
        max(s.end_s or 0.0 for s in simulated),
    )
    return Validation(figures("TTFT", ttfts_s) | figures("TPOT", tpots_s) | {"whole run": ends_s})


def figures(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    measured, simulated = (sorted(column) for column in zip(*pairs, strict=True))
    return {
        f"{name} mean": (statistics.fmean(measured), statistics.fmean(simulated)),
        f"{name} median": (quantile(measured, 0.5), quantile(simulated, 0.5)),
        f"{name} p90": (quantile(measured, 0.9), quantile(simulated, 0.9)),
        f"{name} p99": (quantile(measured, 0.99), quantile(simulated, 0.99)),
    }


def run(engine: Engine, sent: list[tuple[float, Request]]) -> list[Outcome]:
    outcomes = []
    for at_s, request in sent:
        while engine.next_s is not None and engine.next_s <= at_s:
            engine.advance(engine.next_s)
        outcome = Outcome(request, at_s, 0)
        outcomes.append(outcome)
        engine.submit(outcome, at_s)
    while engine.next_s is not None:
        engine.advance(engine.next_s)
    return outcomes


def prefix_of(token_ids: list[int]) -> Prefix:
    hashes: list[int] = []
    ends_tokens: list[int] = []
    chained = 0
    for begin in range(0, len(token_ids), _BLOCK_TOKENS):
        block = token_ids[begin : begin + _BLOCK_TOKENS]
        chained = hash((chained, *block))
        hashes.append(chained)
        ends_tokens.append(begin + len(block))
    return Prefix(hashes, ends_tokens, len(token_ids))


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def _first(row: dict[str, Any]) -> float:
    return float(row["first_token_ts"])


def _tpot(row: dict[str, Any]) -> float:
    return float((row["last_token_ts"] - row["first_token_ts"]) / (row["output_toks"] - 1))

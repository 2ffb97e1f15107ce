"""Chooses the variant, its GPUs and the number of replicas."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from serving.catalogue import CatalogueFile
from serving.planner.candidates import SIZES, candidates
from serving.planner.check import Check, Checks
from serving.planner.day import Day, day
from serving.planner.deployment import config
from serving.planner.objective import Objective
from serving.planner.option import Option, option_of
from serving.planner.sources import sources
from serving.planner.traffic import Traffic
from serving.simulator.engine import EngineSpec
from serving.simulator.spec import engine_spec


class Impossible(Exception):
    """No candidate meets the objective. Each of `options` has its limit, which the message states
    too."""

    def __init__(self, options: Sequence[Option]) -> None:
        lines = [f"{option.name}: {option.limit}" for option in options]
        super().__init__("\n".join(lines))
        self.options = options


@dataclass(frozen=True, slots=True)
class Plan:
    objective: Objective
    options: Sequence[Option]
    chosen: Option
    spec: EngineSpec
    concurrency: float
    """Requests of mean length that a replica's KV cache holds."""
    base: Check
    peak: Check
    day: Day
    config: str
    sources: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        chosen = self.chosen.as_dict()
        del chosen["limit"]
        time = self.spec.step_time
        return {
            "objective": asdict(self.objective),
            "chosen": chosen
            | {
                "prefill_tokens_per_s": time.prefill_tokens_per_s,
                "decode_step_ms": 1000 * time.decode_s(1, 1, 0),
                "requests_held": self.concurrency,
                "full_contexts_held": self.chosen.kv_cache_tokens
                / self.chosen.entry.context_tokens,
            },
            "bound": None if self.peak.at is None else self.peak.at.bound,
            "base": self.base.as_dict(),
            "peak": self.peak.as_dict(),
            "day": asdict(self.day),
            "config": self.config,
            "sources": list(self.sources),
            "options": [option.as_dict() for option in self.options],
        }


def plan(
    model: str,
    file: CatalogueFile,
    gpu: str | float,
    traffic: Traffic,
    objective: Objective,
    *,
    variant: str | None = None,
    context_tokens: int | None = None,
    gpus_per_node: int = 8,
    gpu_hour_price: float | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Plans with the candidate that needs the fewest GPUs at the peak. `model` is the model's name
    in a config file; `say` receives a description of each simulation. Raises Impossible, and the
    exceptions of `candidates`."""
    options: list[Option] = []
    chosen, peak = None, None
    for sizes in SIZES:
        in_a_node = [size for size in sizes if size <= gpus_per_node]
        entries = candidates(file, gpu, in_a_node, variant, context_tokens)
        more = sorted((option_of(entry, traffic, objective) for entry in entries), key=Option.order)
        options += more
        for option in more:
            if option.limit is None:
                checks = Checks(option, model, traffic, objective, seed, say)
                found = checks.fewest_at_peak(None if chosen is None else chosen.peak_gpus)
                if found is not None and (chosen is None or option.order() < chosen.order()):
                    chosen, peak = option, found
        if chosen is not None:
            break
    if chosen is None or peak is None:
        raise Impossible(options)
    base = peak
    if traffic.base_per_s != traffic.peak_per_s:
        checks = Checks(chosen, model, traffic, objective, seed, say)
        at_base = checks.fewest_at_base(peak)
        if at_base is None:
            raise Impossible(options)
        base = at_base
        if base.replicas > peak.replicas:  # a trace may begin with its busiest time
            peak = checks.at_peak(base.replicas)
            chosen.checked = peak.replicas
    return Plan(
        objective=objective,
        options=options,
        chosen=chosen,
        spec=engine_spec(chosen.entry),
        concurrency=chosen.kv_cache_tokens / (traffic.prompt_tokens + traffic.output_tokens),
        base=base,
        peak=peak,
        day=day(
            base_per_s=traffic.base_per_s,
            peak_per_s=traffic.peak_per_s,
            base_replicas=base.replicas,
            peak_replicas=peak.replicas,
            gpus=chosen.gpus,
            prompt_tokens=traffic.prompt_tokens,
            output_tokens=traffic.output_tokens,
            gpu_hour_price=gpu_hour_price,
        ),
        config=config(model, file, chosen.entry, base.replicas, peak.replicas, peak.prefill),
        sources=[*sources(chosen.entry), *_of_traffic(traffic)],
    )


def _of_traffic(traffic: Traffic) -> list[str]:
    if traffic.trace is not None:
        return [f"Checked with the first minutes of {traffic.trace.name}."]
    return ["Checked with random arrivals, and lengths that are exponential around the means."]

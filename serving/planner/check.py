"""Checks an option by simulation: how many replicas meet the objective."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from serving.planner.guess import Operation, operation
from serving.planner.objective import Objective
from serving.planner.option import Option
from serving.planner.search import fewest
from serving.planner.traffic import Traffic
from serving.simulator.record import Figures
from serving.simulator.run import run
from serving.simulator.scenario import FleetConfig, Scenario, SloConfig
from serving.simulator.spec import engine_spec


@dataclass(frozen=True, slots=True)
class Check:
    """The simulated result of a number of replicas at a rate, in `scenario`. `prefill` is the
    simulated share of a replica's time that prefill takes; `at` is a replica's operation by
    formula, None if the formula considers the rate impossible."""

    per_s: float
    replicas: int
    figures: Figures
    prefill: float
    at: Operation | None
    scenario: Scenario

    def as_dict(self) -> dict[str, Any]:
        return {
            "rate_per_s": self.per_s,
            "replicas": self.replicas,
            "good_share": self.figures.good_share,
            "figures": asdict(self.figures),
            "prefill_share_of_time": self.prefill,
            "by_formula": None if self.at is None else asdict(self.at),
            "scenario": self.scenario.settings(),
        }


class Checks:
    """Runs the simulator for an option; `say` receives a description of each run."""

    def __init__(
        self,
        option: Option,
        model: str,
        traffic: Traffic,
        objective: Objective,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self._option = option
        self._spec = engine_spec(option.entry)
        self._model = model
        self._traffic = traffic
        self._objective = objective
        self._seed = seed
        self._say = say

    def fewest_at_peak(self, gpus: int | None) -> Check | None:
        """The fewest replicas, on at most `gpus` GPUs, that meet the objective at the peak. None if
        none do; the option then has the reason as its limit."""
        option, traffic = self._option, self._traffic
        most = None if gpus is None else gpus // option.gpus
        if most == 0:
            option.limit = f"takes {option.gpus} GPUs, others {gpus}"
            return None
        checks: dict[int, Check] = {}
        option.checked = self._fewest(traffic.peak_per_s, option.replicas or 1, most, checks)
        if option.checked is not None:
            return checks[option.checked]
        if gpus is not None:
            option.limit = f"takes more than {gpus} GPUs"
        else:
            option.limit = self._limit(checks[max(checks)])
        return None

    def fewest_at_base(self, peak: Check) -> Check | None:
        """The fewest replicas that meet the objective at the base rate. None if none do; the option
        then has the reason as its limit."""
        traffic = self._traffic
        first = math.ceil(peak.replicas * traffic.base_per_s / traffic.peak_per_s)
        checks: dict[int, Check] = {}
        found = self._fewest(traffic.base_per_s, first, None, checks)
        if found is None:
            limit = self._limit(checks[max(checks)])
            self._option.limit = f"at {traffic.base_per_s:g} requests/s: {limit}"
            return None
        return checks[found]

    def at_peak(self, replicas: int) -> Check:
        return self._simulated(self._traffic.peak_per_s, replicas)

    def _fewest(
        self, per_s: float, first: int, most: int | None, checks: dict[int, Check]
    ) -> int | None:
        def holds(replicas: int) -> bool:
            self._say(f"{self._option.name}: {replicas} replicas, {per_s:g} requests/s")
            checks[replicas] = self._simulated(per_s, replicas)
            return checks[replicas].figures.good_share >= self._objective.share

        return fewest(holds, first, most)

    def _simulated(self, per_s: float, replicas: int) -> Check:
        entry, traffic, objective = self._option.entry, self._traffic, self._objective
        scenario = Scenario(
            fleet=FleetConfig(
                model=self._model,
                variant=entry.variant,
                gpu=entry.gpu,
                tensor_parallel_size=entry.tensor_parallel_size,
                context_tokens=entry.context_tokens,
                replicas=replicas,
            ),
            load=traffic.load(per_s),
            slo=SloConfig(ttft_s=objective.ttft_s, itl_ms=round(1000 * objective.itl_s, 6)),
            seed=self._seed,
        )
        report = run(scenario)
        total = report.total
        read_tokens = total.prompt_tokens * (1 - total.hit_rate)
        prefill_tokens_per_s = read_tokens / max(report.span_s, 1e-9) / replicas
        seen = replace(traffic, cached_tokens=traffic.prompt_tokens * total.hit_rate)
        return Check(
            per_s,
            replicas,
            total,
            prefill_tokens_per_s / self._spec.step_time.prefill_tokens_per_s,
            operation(self._spec, seen, per_s / replicas),
            scenario,
        )

    def _limit(self, check: Check) -> str:
        """The reason why no number of replicas meets the objective."""
        figures, objective = check.figures, self._objective
        ttft_s, itl_s = figures.ttft_p99_s or math.inf, figures.itl_p99_s or 0.0
        if figures.refused / max(figures.requests, 1) > 1 - objective.share:
            what = f"KV cache or context: {figures.refused / figures.requests:.1%} are refused"
        elif itl_s / objective.itl_s > ttft_s / objective.ttft_s:
            what = f"bandwidth: 1 % wait more than {1000 * itl_s:.1f} ms between tokens on average"
        else:
            what = f"prefill: 1 % wait more than {ttft_s:.2f} s for the first token"
        return f"{what}, with {check.replicas} replicas; {figures.good_share:.2%} are good"

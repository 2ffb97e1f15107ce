"""By formula, against the simulator where it is the judge."""

import pytest

from serving import catalogue
from serving.planner.guess import limit, operation, per_replica, prefill_s
from serving.planner.objective import Objective
from serving.planner.traffic import Traffic, made_up
from serving.simulator.engine import EngineSpec
from serving.simulator.run import run
from serving.simulator.scenario import DEFAULT_MODEL, FleetConfig, Scenario
from serving.simulator.spec import engine_spec

SPEC: EngineSpec = engine_spec(catalogue.load(DEFAULT_MODEL, "bf16-tp2"))
OBJECTIVE = Objective(ttft_s=2.0, itl_s=0.05, share=0.99)


def traffic(prompt: int = 2000, output: int = 300, share: float = 0.5) -> Traffic:
    return made_up(1, 1, prompt, output, share, 8)


@pytest.mark.parametrize(
    ("asked", "per_s"),
    [(traffic(), 6.0), (traffic(6000, 100, 0.0), 1.5), (traffic(500, 800, 0.0), 3.0)],
)
def test_a_replica_is_as_busy_as_in_the_simulator(asked: Traffic, per_s: float) -> None:
    at = operation(SPEC, asked, per_s)
    fleet = FleetConfig(variant="bf16-tp2", replicas=1)
    figures = run(Scenario(fleet=fleet, load=asked.load(per_s))).total
    assert at and figures.itl_p50_s
    assert at.itl_s == pytest.approx(figures.itl_p50_s, rel=0.15)


def test_what_is_needed_most_is_what_bounds() -> None:
    prompts, answers = (
        operation(SPEC, traffic(8000, 50, 0.0), 2),
        operation(SPEC, traffic(500, 2000, 0.0), 4),
    )
    assert prompts and prompts.bound == "prefill"
    assert answers and answers.bound == "bandwidth"
    small = EngineSpec(SPEC.step_time, kv_cache_tokens=30_000)
    held = operation(small, traffic(4000, 1000, 0.9), 2)
    assert held and held.bound == "KV cache"


def test_more_than_a_replica_can_do_is_no_operation() -> None:
    asked = traffic()
    assert operation(SPEC, asked, 1 / prefill_s(SPEC, asked)) is None
    assert operation(SPEC, asked, per_replica(SPEC, asked, OBJECTIVE)) is not None


def test_a_stricter_objective_leaves_less() -> None:
    asked = traffic()
    rates = [per_replica(SPEC, asked, Objective(2.0, itl_s, 0.99)) for itl_s in (0.1, 0.05, 0.02)]
    assert rates[0] > rates[1] > rates[2] > 0


@pytest.mark.parametrize(
    ("asked", "objective", "named"),
    [
        (traffic(), Objective(2.0, 0.005, 0.99), "bandwidth: a decode step takes 10."),
        (traffic(20_000, share=0.0), Objective(2.0, 0.05, 0.99), "prefill: 1.00% of the prompts"),
        (traffic(40_000, share=0.0), Objective(60, 0.05, 0.99), "context: "),
    ],
)
def test_what_idle_replicas_could_not_do_has_its_limit(
    asked: Traffic, objective: Objective, named: str
) -> None:
    assert (limit(SPEC, asked, objective) or "").startswith(named)
    assert limit(SPEC, traffic(), OBJECTIVE) is None

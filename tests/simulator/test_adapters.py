"""Adapters in simulated time: where they run, how often they are loaded, how long they wait."""

import itertools
import random
from collections.abc import Iterable

from serving.placement.least_cost import LeastCost
from serving.simulator.adapters import AdaptersConfig, with_adapters
from serving.simulator.engine import EngineSpec
from serving.simulator.run import run
from serving.simulator.scenario import Scenario
from serving.simulator.simulation import Simulation
from serving.simulator.step_time import StepTime
from serving.simulator.workload import Arrival, shared_prefix_requests
from tests.dispatch.fleet import LeastBooked
from tests.support.loads import poisson

SPEC = EngineSpec(
    StepTime(prefill_tokens_per_s=11_000, weights_s=0.018, kv_token_s=1e-8, attention_s=0.0,
             overhead_s=0.001, sequence_s=0.0001),
    145_000,
    max_num_batched_tokens=8192,
    max_num_seqs=64,
    context_tokens=32768,
)  # fmt: skip
ROOM = AdaptersConfig(count=40, max_loras=4, resident=12, load_ms=500)


def arrivals(count: int = 600, per_s: float = 6.0) -> Iterable[Arrival]:
    dice = random.Random(1)
    requests = shared_prefix_requests(dice, prefix_tokens=500, question_tokens=100,
                                      output_tokens=100)  # fmt: skip
    return with_adapters(poisson(itertools.islice(requests, count), per_s, dice), ROOM, 1)


def simulated(policy: type) -> Simulation:
    simulation = Simulation(SPEC, 4, policy, max_wait_s=60.0, adapters=ROOM, output_tokens=100)
    result = simulation.run(arrivals())
    assert len(result.outcomes) == 600
    assert all(outcome.end_s is not None for outcome in result.outcomes)
    return simulation


def test_all_are_served_and_placement_saves_loads() -> None:
    """With 40 adapters, room for 48 and each loaded once, 40 loads are the least."""
    ours, spread = simulated(LeastCost), simulated(LeastBooked)
    assert ours.loaded is not None and spread.loaded is not None
    assert ours.loaded.loads < 120 < spread.loaded.loads


def test_a_scenario_may_have_adapters() -> None:
    scenario = Scenario.model_validate(
        {
            "fleet": {"replicas": 2},
            "load": {"rate_per_s": 2, "max_requests": 60},
            "adapters": {"count": 10, "max_loras": 2},
        }
    )
    report = run(scenario)
    assert "10, 2 at a time and 32 loaded on a replica, 500 ms a load" in str(report)

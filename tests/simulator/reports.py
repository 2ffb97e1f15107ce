"""A report for tests, in which a replica is overloaded until a second one joins."""

from serving.placement import LeastCost
from serving.scaling import Decision, Observed
from serving.simulator.record import Record
from serving.simulator.report import Report
from serving.simulator.result import Slo
from serving.simulator.simulation import Autoscaling, Simulation
from tests.simulator.engines import mistral_small
from tests.support.loads import shared_prefixes


class OneMore:
    """Adds a second replica after a while."""

    def decide(self, observed: Observed, now_s: float) -> Decision:
        return Decision(1 if now_s < 20 else 2, "prefill", 0.0, 1.0)


def scaled() -> Report:
    record = Record(Slo())
    simulation = Simulation(
        mistral_small(),
        1,
        LeastCost,
        max_wait_s=2.0,
        autoscaling=Autoscaling(OneMore(), startup_s=20.0),
        on_end=record.add,
    )
    result = simulation.run(shared_prefixes(1500, 15.0))
    return Report.of(record, result, 2, {"load": "a < b"})


def refused() -> Report:
    """A report of requests for which there was never a replica."""
    record = Record(Slo())
    simulation = Simulation(mistral_small(), 0, LeastCost, max_wait_s=1.0, on_end=record.add)
    return Report.of(record, simulation.run(shared_prefixes(5, 10.0)), 2, {})

"""A load on replicas of a model, from the catalogue to the report."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from serving.catalogue import CatalogueEntry
from serving.catalogue.rates import first_rates
from serving.placement.policies import WAIT_FOR_CHOICE, PolicyName, policy
from serving.scaling import Scaler
from serving.simulator.load import Load
from serving.simulator.record import Record
from serving.simulator.report import Report
from serving.simulator.result import Slo
from serving.simulator.simulation import Autoscaling, Simulation
from serving.simulator.spec import engine_spec


def run(
    entry: CatalogueEntry,
    load: Load,
    replicas: int,
    slo: Slo,
    *,
    scaler: Scaler | None = None,
    startup_s: float = 120.0,
    routers: int = 1,
    lag_s: float = 0.01,
    placement: PolicyName = "least_cost",
    max_wait_s: float = 30.0,
    seed: int = 0,
    settings: Mapping[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """See `Simulation`. `settings` are what the report says of itself. Raises SpecError."""
    record = Record(slo)
    rates = first_rates(entry)
    simulation = Simulation(
        engine_spec(entry),
        replicas,
        lambda: policy(placement),
        rates,
        waits_for_choice=placement in WAIT_FOR_CHOICE,
        routers=routers,
        lag_s=lag_s,
        max_wait_s=max_wait_s,
        autoscaling=Autoscaling(scaler, startup_s),
        seed=seed,
        on_end=record.add,
    )
    with _without_collector():
        result = simulation.run(load.arrivals, progress)
    gpus = entry.tensor_parallel_size * entry.pipeline_parallel_size
    return Report.of(record, result, gpus, settings or {})


@contextmanager
def _without_collector() -> Iterator[None]:
    """A simulation has no cycles; to look for them takes a sixth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

"""Runs a scenario, from the catalogue to the report."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.catalogue import CatalogueEntry
from serving.catalogue.rates import first_rates
from serving.placement.policies import WAIT_FOR_CHOICE, policy
from serving.scaling import ScalingPolicy
from serving.simulator.adapters import with_adapters
from serving.simulator.engine import EngineSpec
from serving.simulator.load import Load
from serving.simulator.record import Record
from serving.simulator.report import Report, TenantFigures
from serving.simulator.request import Outcome
from serving.simulator.scenario import Scenario
from serving.simulator.simulation import Autoscaling, Simulation
from serving.simulator.spec import engine_spec
from serving.simulator.tenants import together


def run(scenario: Scenario, progress: Callable[[float, float], None] | None = None) -> Report:
    """Simulates the scenario. `progress` receives the simulated time and the time at which the load
    ends, both in seconds.

    Raises CatalogueError and SpecError for a model that cannot be simulated on the fleet's GPUs,
    TraceError and OSError for a trace that cannot be read.
    """
    fleet, scaling = scenario.fleet, scenario.scaling
    entry = fleet.entry()
    spec, rates = engine_spec(entry), first_rates(entry)
    load = scenario.load.load(scenario.seed)
    if scenario.tenants:
        load = together(scenario.tenants, scenario.seed)
    arrivals = load.arrivals
    if scenario.adapters is not None:
        arrivals = with_adapters(arrivals, scenario.adapters, scenario.seed)
    slo = scenario.slo.slo()
    record, of_tenants = Record(slo), {tenant.name: Record(slo) for tenant in scenario.tenants}

    def end(outcome: Outcome) -> None:
        record.add(outcome)
        if outcome.request.tenant:
            of_tenants[outcome.request.tenant].add(outcome)

    simulation = Simulation(
        spec,
        scenario.first_replicas,
        lambda: policy(fleet.placement),
        rates,
        waits_for_choice=fleet.placement in WAIT_FOR_CHOICE,
        routers=fleet.routers,
        lag_s=fleet.router_lag_ms / 1000,
        max_wait_s=fleet.max_wait_s,
        autoscaling=Autoscaling(
            None if scaling is None else ScalingPolicy(scaling), fleet.startup_s
        ),
        tenants=scenario.tenants,
        adapters=scenario.adapters,
        seed=scenario.seed,
        on_end=end if of_tenants else record.add,
    )
    with without_collector():
        result = simulation.run(
            arrivals,
            None if progress is None else lambda now_s: progress(now_s, load.seconds),
        )
    gpus = entry.tensor_parallel_size * entry.pipeline_parallel_size
    tenants = {
        name: TenantFigures(
            of_tenant.total(),
            sum(one.fair_share.served_ms.get(name, 0.0) for one in simulation.dispatchers) / 1000,
        )
        for name, of_tenant in of_tenants.items()
    }
    return Report.of(record, result, gpus, _settings(scenario, entry, spec, load), tenants)


def _settings(
    scenario: Scenario, entry: CatalogueEntry, spec: EngineSpec, load: Load
) -> dict[str, str]:
    fleet, scaling, step_time = scenario.fleet, scenario.scaling, spec.step_time
    replicas, routers = str(scenario.first_replicas), str(fleet.routers)
    if scaling is not None:
        replicas += (
            f" to {scaling.max_replicas}, up after {fleet.startup_s:g} s, "
            f"{scaling.prefill_utilization:.0%} of their time for prefill"
        )
    if fleet.routers > 1:
        routers += f", in step after {fleet.router_lag_ms:g} ms"
    adapters = {}
    if (some := scenario.adapters) is not None:
        adapters["adapters"] = (
            f"{some.count}, {some.max_loras} at a time and {some.resident} loaded on a replica, "
            f"{some.load_ms:g} ms a load"
        )
    return adapters | {
        "model": f"{entry.id}, {entry.variant or 'only variant'}",
        "replica": f"{entry.hardware}, {step_time.prefill_tokens_per_s:,.0f} prompt tokens/s, "
        f"{1000 * (step_time.weights_s + step_time.overhead_s):.1f} ms a step, "
        f"{spec.kv_cache_tokens:,} tokens of KV cache",
        "load": load.name,
        "replicas": replicas,
        "routers": routers,
        "placement": fleet.placement,
        "longest wait": f"{fleet.max_wait_s:g} s",
        "seed": str(scenario.seed),
    }


@contextmanager
def without_collector() -> Iterator[None]:
    """Pauses the garbage collector: a simulation has no cycles, and looking for them takes a sixth
    of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

"""Turns that the agents of two tenants have while their sessions fill the caches four times, in
simulated time, by the tenants' agents and weights.

`python -m tests.bench.agents_tenants` runs the load and the fleet of `tests.bench.agents`. Reports,
asserts nothing.
"""

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from rich.console import Console

from serving.catalogue.rates import first_rates
from serving.simulator.request import Request
from serving.simulator.simulation import Simulation
from serving.simulator.tenants import TenantLoad
from tests.bench.agents import (
    LOAD,
    MAX_WAIT_S,
    REPLICAS,
    UNTIL_S,
    WARM_S,
    agents,
)
from tests.bench.agents_load import turns
from tests.bench.placement import ENTRY, OURS, POLICIES, SPEC
from tests.bench.relay_report import new_table

SUBSCRIPTION = 4


@dataclass(frozen=True, slots=True)
class Run:
    """The part of all agents that is the first tenant's, and its weight; the second one's is 1."""

    part: float
    weight: float = 1.0


RUNS = (Run(0.5), Run(0.5, 3), Run(0.75), Run(0.97))


@dataclass(frozen=True, slots=True)
class Tenant:
    agents: int
    weight: float
    turns_per_h: float
    wait_max_s: float


def simulate(run: Run) -> list[Tenant]:
    weights = {"a": run.weight, "b": 1.0}
    sent = agents(SUBSCRIPTION)
    names = ["a" if at * run.part % 1 < run.part else "b" for at in range(len(sent))]
    arrivals = [
        replace(arrival, request=of_tenant(arrival.request, name))
        for arrival, name in zip(sent, names, strict=True)
    ]
    simulation = Simulation(
        SPEC,
        REPLICAS,
        POLICIES[OURS],
        first_rates(ENTRY),
        output_tokens=LOAD.output_tokens,
        max_wait_s=MAX_WAIT_S,
        tenants=[TenantLoad(name=name, weight=weight) for name, weight in weights.items()],
    )
    waits_s: dict[str, list[float]] = {name: [] for name in weights}
    for outcome in simulation.run(arrivals, until_s=UNTIL_S).outcomes:
        if outcome.end_s is not None and WARM_S < outcome.end_s <= UNTIL_S:
            waits_s[outcome.request.tenant].append(outcome.ttft_s or 0.0)
    count = Counter(arrival.request.tenant for arrival in arrivals)
    hours = (UNTIL_S - WARM_S) / 3600
    return [
        Tenant(count[name], weight, len(waits_s[name]) / hours, max(waits_s[name]))
        for name, weight in weights.items()
    ]


def of_tenant(first: Request, name: str) -> Request:
    """Returns a request and its later turns as a tenant's."""
    following: Request | None = None
    for turn in reversed(list(turns(first))):
        following = replace(turn, tenant=name, next_turn=following)
    assert following is not None
    return following


def main() -> None:
    table = new_table(
        f"two tenants, whose sessions fill the caches {SUBSCRIPTION} x",
        *("agents", "weights", "turns/h", "per agent", "longest wait, s"),
    )
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for tenants in pool.map(simulate, RUNS):
            table.add_row(
                " and ".join(f"{one.agents}" for one in tenants),
                " and ".join(f"{one.weight:g}" for one in tenants),
                " and ".join(f"{one.turns_per_h:,.0f}" for one in tenants),
                " and ".join(f"{one.turns_per_h / one.agents:.0f}" for one in tenants),
                " and ".join(f"{one.wait_max_s:.0f}" for one in tenants),
            )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()

"""Tenants of a scenario, each with a load of its own."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from pydantic import Field

from serving.dispatch import TenantLimits
from serving.section import Section
from serving.simulator.load import Load, LoadConfig
from serving.simulator.request import each_turn
from serving.simulator.resample import other_text
from serving.simulator.workload import Arrival

_TENANT = 1 << 56
"""Distance between the hashes of two tenants' texts."""


class TenantLoad(Section):
    """A tenant, and the requests that it sends."""

    name: str = Field(min_length=1)
    weight: float = Field(gt=0, default=1)
    """Its part of the engines' time, relative to the weights of the others that want more."""
    limits: TenantLimits | None = None
    begins_s: float = Field(ge=0, default=0)
    """When it sends its first request."""
    load: LoadConfig = LoadConfig()


def together(tenants: Sequence[TenantLoad], seed: int) -> Load:
    """Returns the requests of all tenants, in the order of their arrival. Tenants share no prompts.
    Raises TraceError and OSError for a trace that cannot be read."""
    loads = [tenant.load.load(seed + number) for number, tenant in enumerate(tenants)]
    arrivals = [
        _of_tenant(tenant, load, number * _TENANT)
        for number, (tenant, load) in enumerate(zip(tenants, loads, strict=True))
    ]
    return Load(
        "; ".join(
            f"{tenant.name}: {load.name}" for tenant, load in zip(tenants, loads, strict=True)
        ),
        heapq.merge(*arrivals, key=lambda arrival: arrival.at_s),
        max(tenant.begins_s + load.seconds for tenant, load in zip(tenants, loads, strict=True)),
    )


def _of_tenant(tenant: TenantLoad, load: Load, offset: int) -> Iterator[Arrival]:
    for arrival in load.arrivals:
        request = other_text(arrival.request, offset)
        named = each_turn(request, partial(replace, tenant=tenant.name))
        yield Arrival(arrival.at_s + tenant.begins_s, named)

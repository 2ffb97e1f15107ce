"""A tenant: those whose requests are counted and ordered together."""

from dataclasses import dataclass

from serving.dispatch import PRIORITIES, TenantLimits


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    max_priority: int = PRIORITIES - 1
    """The highest priority of its requests, whatever their `x-priority`."""
    weight: float = 1.0
    """Its part of the engines' time, relative to the weights of others that want more."""
    limits: TenantLimits | None = None
    """What it may use at most."""


DEFAULT = Tenant("default")
"""The only tenant where none is configured."""

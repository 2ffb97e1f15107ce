"""A tenant: those whose requests are counted and ordered together."""

from dataclasses import dataclass

from serving.dispatch import PRIORITIES


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    max_priority: int = PRIORITIES - 1
    """The highest priority of its requests, whatever their `x-priority`."""


DEFAULT = Tenant("default")
"""The only tenant where none is configured."""

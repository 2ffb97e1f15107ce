"""A tenant: those whose requests are counted and ordered together."""

from pydantic import Field

from serving.dispatch import PRIORITIES, TenantLimits
from serving.section import Section

TENANT_NAME = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"


class Tenant(Section):
    """Those whose requests are counted and ordered together, by their API keys or tokens."""

    name: str = Field(pattern=TENANT_NAME)
    """The tenant's name in metrics, the request log and traces."""
    max_priority: int = Field(ge=0, lt=PRIORITIES, default=PRIORITIES - 1)
    """The highest priority of the tenant's requests, whatever their `x-priority`."""
    weight: float = Field(gt=0, default=1)
    """The tenant's part of the engines' time while others want more than is left, relative to their
    weights."""
    limits: TenantLimits | None = None
    """What the tenant may use at most, even if nobody else wants it."""


DEFAULT = Tenant(name="default")
"""The only tenant where none is configured."""

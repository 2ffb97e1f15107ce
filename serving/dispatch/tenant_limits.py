"""The limits of a tenant or an adapter."""

from typing import Literal

from pydantic import Field

from serving.section import Section

LimitName = Literal[
    "requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent_requests"
]


class TenantLimits(Section):
    """How much a tenant may use of all models together, or all tenants of an adapter, through all
    routers. Tokens are those of prompts, cached or not, and of answers."""

    requests_per_minute: int | None = Field(ge=1, default=None)
    """Requests in any minute."""
    tokens_per_minute: int | None = Field(ge=1, default=None)
    """Tokens in any minute: by estimate when a request comes, corrected when it ends."""
    tokens_per_day: int | None = Field(ge=1, default=None)
    """Tokens in any 24 hours, likewise."""
    concurrent_requests: int | None = Field(ge=1, default=None)
    """Requests that wait or are served at a time."""

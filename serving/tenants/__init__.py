"""Tenants, their API keys, and who a request comes from. Pure: no clock, no HTTP, no Ray."""

from serving.tenants.caller import Caller
from serving.tenants.tenant import DEFAULT, Tenant

__all__ = ["DEFAULT", "Caller", "Tenant"]

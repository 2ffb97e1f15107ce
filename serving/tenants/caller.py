"""Who a request comes from, and what it may use: the result of authentication."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from serving.tenants.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: Tenant
    max_priority: int
    """The highest priority of its requests: the lower one of its tenant's and its key's."""
    key_id: str | None = None
    """The id of its API key; None for a token of the identity provider, and for anyone."""
    models: frozenset[str] | None = None
    """The models that it may use, each by one of its names; None: all."""
    endpoints: tuple[str, ...] | None = None
    """The paths that it may use, and those below them; None: all."""
    expires_s: float = math.inf
    """The Unix time from which its key or token is refused."""

    def may_use(self, names: Iterable[str]) -> bool:
        """Returns whether it may use the model that has these names."""
        return self.models is None or not self.models.isdisjoint(names)

    def may_ask(self, path: str) -> bool:
        return self.endpoints is None or any(
            path == endpoint or path.startswith(f"{endpoint}/") for endpoint in self.endpoints
        )

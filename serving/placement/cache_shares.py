"""The parts of the KV caches that the sessions of each tenant have."""

from collections import Counter
from collections.abc import Set


class CacheShares:
    """Tokens of the working sets by tenant. A tenant's share of the caches is by its weight among
    the tenants that have sessions there or want to."""

    def __init__(self) -> None:
        self._tokens: Counter[str] = Counter()
        self._weights: dict[str, float] = {}

    def weigh(self, tenant: str, weight: float) -> None:
        """Sets a tenant's weight; it is 1 until then."""
        self._weights[tenant] = weight

    def add(self, tenant: str, tokens: int) -> None:
        """Adds what a session of a tenant has, or takes it away if negative."""
        self._tokens[tenant] += tokens
        if not self._tokens[tenant]:
            del self._tokens[tenant]

    def used(self, tenant: str) -> float:
        """Returns the tokens of a tenant's sessions over its weight."""
        return self._tokens[tenant] / self._weights.get(tenant, 1.0)

    def above(self, of_tokens: float, tenant: str, tokens: int) -> Set[str]:
        """Returns the tenants that have more than their shares of `of_tokens` even with `tokens`
        less; none if this one has more than its share with `tokens` more."""
        weights = {one: self._weights.get(one, 1.0) for one in {*self._tokens, tenant}}
        if len(weights) == 1:
            return frozenset()
        share = of_tokens / sum(weights.values())
        if self._tokens[tenant] + tokens > share * weights[tenant]:
            return frozenset()
        return {
            one for one, weight in weights.items() if self._tokens[one] - tokens > share * weight
        }

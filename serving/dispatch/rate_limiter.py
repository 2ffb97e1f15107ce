"""Holds tenants to their limits, together with the other routers."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from serving.dispatch.messages import LimitMessage, Usage, Used
from serving.dispatch.sliding_window import SlidingWindow
from serving.dispatch.tenant_limits import LimitName, TenantLimits

_MINUTE_S = 60.0
_DAY_S = 86_400.0
_GRANULES = 120
"""Half a second of a minute, 12 minutes of a day."""
_CONCURRENT_RETRY_S = 1
_PACED_S = 60.0
"""How long a tenant that has exceeded a limit per minute gets it evenly, and not at once."""
_PACE_S = 3.0
"""What it gets at a time."""


def adapter_key(name: str) -> str:
    """Returns the name under which a `RateLimiter` counts what all tenants use of an adapter."""
    return f"adapter/{name}"


class Permit(NamedTuple):
    """The use that a tenant's request makes of its limits, until it ends."""

    tenant: str
    tokens: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The limit that a request would exceed."""

    limit: LimitName
    most: int
    retry_after_s: int | None
    """When there is room for the request; None if there never is."""


class Allowance(NamedTuple):
    """What is left of a limit."""

    limit: int
    remaining: int
    reset_s: float
    """The time until all of it is there again, if nothing is used meanwhile."""


class RateLimiter:
    """Counts what each tenant uses in sliding windows. Every router counts what all of them admit,
    so a tenant has one limit whichever of them its requests reach. What is admitted elsewhere is
    known some milliseconds later, so a limit is exceeded by what comes to the other routers in that
    time. All times are from one monotonic clock."""

    def __init__(self) -> None:
        self.publish: Callable[[LimitMessage], object] | None = None
        """Called with each message for the other routers, in order. None: there are none."""
        self._tenants: dict[str, _Usage] = {}

    def check(
        self, tenant: str, limits: TenantLimits, now_s: float, tokens: int = 1
    ) -> Exceeded | None:
        """Returns the limit that a request of that many tokens would exceed now."""
        usage = self._of(tenant)
        most = limits.concurrent_requests
        if most is not None and usage.running >= most:
            return Exceeded("concurrent_requests", most, _CONCURRENT_RETRY_S)
        is_paced = now_s - usage.exceeded_at_s < _PACED_S
        for limit, most, window in usage.bounds(limits):
            amount = 1 if limit == "requests_per_minute" else tokens
            excess = window.total(now_s) + amount - most
            if excess > 0 or (
                is_paced and limit != "tokens_per_day" and _is_ahead(window, most, now_s)
            ):
                usage.exceeded_at_s = now_s
                in_s = window.frees_in_s(excess, now_s) if excess > 0 else _PACE_S
                retry_after_s = max(1, math.ceil(in_s)) if amount <= most else None
                return Exceeded(limit, most, retry_after_s)
        return None

    def admit(
        self, tenant: str, limits: TenantLimits, tokens: int, now_s: float
    ) -> Permit | Exceeded:
        """Counts a request of that many tokens, by estimate, unless it exceeds a limit. The caller
        must `end` the permit."""
        exceeded = self.check(tenant, limits, now_s, tokens)
        if exceeded is not None:
            return exceeded
        self._tenants[tenant].own_running += 1
        self._use(tenant, 1, tokens, now_s, now_s)
        return Permit(tenant, tokens, now_s)

    def end(self, permit: Permit, tokens: int, now_s: float, *, refused: bool = False) -> None:
        """Ends a request that has used that many tokens. One that was `refused`, though within its
        limits, does not count."""
        self._tenants[permit.tenant].own_running -= 1
        more = tokens - permit.tokens
        at_s = now_s if more > 0 else permit.at_s
        self._use(permit.tenant, -1 if refused else 0, more, at_s, now_s)

    def requests(self, tenant: str, limits: TenantLimits, now_s: float) -> Allowance | None:
        """Returns what is left of the requests per minute, if they are limited."""
        return _left(limits.requests_per_minute, self._of(tenant).requests, now_s)

    def tokens(self, tenant: str, limits: TenantLimits, now_s: float) -> Allowance | None:
        """Returns what is left of the tokens per minute, or else per day, if they are limited."""
        usage = self._of(tenant)
        if limits.tokens_per_minute is not None:
            return _left(limits.tokens_per_minute, usage.tokens, now_s)
        return _left(limits.tokens_per_day, usage.day_tokens, now_s)

    def restore(self, tenant: str, requests: int, tokens: int, ago_s: float, now_s: float) -> None:
        """Counts what was used `ago_s` ago, before any router that is up could know of it."""
        self._of(tenant).add(requests, tokens, now_s - ago_s, now_s)

    # Other routers

    def snapshot(self) -> list[LimitMessage]:
        """Returns the messages that a router needs first when it subscribes."""
        running = [(tenant, usage.own_running) for tenant, usage in self._tenants.items()]
        return [Used(tenant, requests) for tenant, requests in running if requests]

    def usage(self, now_s: float) -> Iterator[LimitMessage]:
        """Yields the messages that a router needs before the snapshot if it has just begun."""
        for tenant, usage in self._tenants.items():
            yield Usage(
                tenant,
                usage.requests.amounts(now_s),
                usage.tokens.amounts(now_s),
                usage.day_tokens.amounts(now_s),
            )

    def receive(self, router_id: str, messages: Iterable[LimitMessage], now_s: float) -> None:
        """Applies what another router published, in its order."""
        for message in messages:
            usage = self._of(message.tenant)
            if isinstance(message, Used):
                usage.others_running[router_id] = message.running
                usage.add(message.requests, message.tokens, now_s - message.ago_s, now_s)
                continue
            for window, amounts in (
                (usage.requests, message.requests),
                (usage.tokens, message.tokens),
                (usage.day_tokens, message.day_tokens),
            ):
                for ago_s, amount in amounts:
                    window.add(amount, now_s - ago_s, now_s)

    def forget(self, router_id: str) -> None:
        """Forgets the unfinished requests of a router that is gone, not what it has used."""
        for usage in self._tenants.values():
            usage.others_running.pop(router_id, None)

    # Within

    def _of(self, tenant: str) -> "_Usage":
        usage = self._tenants.get(tenant)
        if usage is None:
            usage = self._tenants[tenant] = _Usage()
        return usage

    def _use(self, tenant: str, requests: int, tokens: int, at_s: float, now_s: float) -> None:
        usage = self._tenants[tenant]
        usage.add(requests, tokens, at_s, now_s)
        if self.publish is not None:
            self.publish(Used(tenant, usage.own_running, requests, tokens, now_s - at_s))


class _Usage:
    """What one tenant has used and uses."""

    def __init__(self) -> None:
        self.requests = SlidingWindow(_MINUTE_S, _GRANULES)
        self.tokens = SlidingWindow(_MINUTE_S, _GRANULES)
        self.day_tokens = SlidingWindow(_DAY_S, _GRANULES)
        self.own_running = 0
        self.others_running: dict[str, int] = {}
        self.exceeded_at_s = -math.inf
        """When a request was last refused for a limit."""
        self._limits: TenantLimits | None = None
        self._bounds: list[tuple[LimitName, int, SlidingWindow]] = []

    def bounds(self, limits: TenantLimits) -> list[tuple[LimitName, int, SlidingWindow]]:
        """Returns the limits over a time that there are, and what is counted of each."""
        if limits is not self._limits:
            counted: tuple[tuple[LimitName, int | None, SlidingWindow], ...] = (
                ("requests_per_minute", limits.requests_per_minute, self.requests),
                ("tokens_per_minute", limits.tokens_per_minute, self.tokens),
                ("tokens_per_day", limits.tokens_per_day, self.day_tokens),
            )
            self._limits = limits
            self._bounds = [
                (limit, most, window) for limit, most, window in counted if most is not None
            ]
        return self._bounds

    @property
    def running(self) -> int:
        return self.own_running + sum(self.others_running.values())

    def add(self, requests: int, tokens: int, at_s: float, now_s: float) -> None:
        if requests:
            self.requests.add(requests, at_s, now_s)
        if tokens:
            self.tokens.add(tokens, at_s, now_s)
            self.day_tokens.add(tokens, at_s, now_s)


def _is_ahead(window: SlidingWindow, most: int, now_s: float) -> bool:
    """Whether a tenant that keeps exceeding its limits has had its part of the last seconds. All at
    once, each time that a burst leaves the window, would delay the others."""
    return window.since(_PACE_S, now_s) >= max(1.0, most * _PACE_S / _MINUTE_S)


def _left(limit: int | None, window: SlidingWindow, now_s: float) -> Allowance | None:
    if limit is None:
        return None
    remaining = max(0, limit - window.total(now_s))
    return Allowance(limit, remaining, window.empties_in_s(now_s))

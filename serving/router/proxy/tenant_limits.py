"""Holds relayed requests to the limits of their tenants."""

import time
from collections.abc import Callable

from serving.asgi import Headers
from serving.dispatch import Exceeded, Permit, RateLimiter, TenantLimits
from serving.router.http import errors
from serving.router.http.errors import ApiError
from serving.router.http.rate_limit_headers import rate_limit_headers
from serving.router.proxy.exchange import Exchange
from serving.router.telemetry.request_record import RequestRecord
from serving.tenants import Tenant

_NOT_SERVED = frozenset(("refused", "replicas_failed", "internal_error"))
"""Outcomes of requests that do not count."""


class TenantLimiter:
    """Admits the requests of tenants that have limits."""

    def __init__(self, limiter: RateLimiter, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = limiter
        self._clock = clock

    def check(self, tenant: Tenant, path: str) -> None:
        """Raises ApiError if nothing is left of a limit, before the body is read."""
        if tenant.limits is not None:
            now_s = self._clock()
            exceeded = self._limiter.check(tenant.name, tenant.limits, now_s)
            if exceeded is not None:
                raise self._refusal(exceeded, tenant.name, tenant.limits, path, now_s)

    def admit(self, tenant: Tenant, exchange: Exchange) -> Permit | None:
        """Counts a request by its expected tokens, and adds to the response headers what is left.
        The caller must `end` the permit. Raises ApiError if a limit would be exceeded."""
        if tenant.limits is None:
            return None
        now_s, path, work = self._clock(), exchange.record.path, exchange.demand.work
        tokens = work.prompt_tokens + work.output_tokens
        permit = self._limiter.admit(tenant.name, tenant.limits, tokens, now_s)
        if isinstance(permit, Exceeded):
            raise self._refusal(permit, tenant.name, tenant.limits, path, now_s)
        exchange.headers += self._headers(tenant.name, tenant.limits, path, now_s)
        return permit

    def end(self, permit: Permit, record: RequestRecord) -> None:
        """Counts what the request used. A prompt that was sent to an engine counts even if the
        client left before the engine said its length."""
        tokens = record.input_tokens + record.output_tokens
        if record.replica is not None and not record.input_tokens:
            tokens += record.prompt_tokens or 0
        is_refused = record.outcome in _NOT_SERVED
        self._limiter.end(permit, 0 if is_refused else tokens, self._clock(), refused=is_refused)

    def _refusal(
        self, exceeded: Exceeded, tenant: str, limits: TenantLimits, path: str, now_s: float
    ) -> ApiError:
        error = errors.limited(exceeded)
        error.more_headers += self._headers(tenant, limits, path, now_s)
        return error

    def _headers(self, tenant: str, limits: TenantLimits, path: str, now_s: float) -> Headers:
        requests = self._limiter.requests(tenant, limits, now_s)
        tokens = self._limiter.tokens(tenant, limits, now_s)
        return rate_limit_headers(path, requests, tokens)

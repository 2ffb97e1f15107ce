"""Holds relayed requests to the limits of their tenants and adapters."""

import time
from collections.abc import Sequence

from serving.asgi import Headers
from serving.dispatch import Exceeded, Permit, RateLimiter, TenantLimits, adapter_key
from serving.router.http import errors
from serving.router.http.errors import ApiError
from serving.router.http.rate_limit_headers import rate_limit_headers
from serving.router.proxy.exchange import Exchange
from serving.router.telemetry.request_record import RequestRecord
from serving.tenants import Tenant

_NOT_SERVED = frozenset(("refused", "replicas_failed", "internal_error"))
"""Outcomes of requests that do not count."""


class TenantLimiter:
    """Admits the requests of tenants that have limits, and those for adapters that have."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def check(self, tenant: Tenant, path: str) -> None:
        """Raises ApiError if nothing is left of a limit, before the body is read."""
        if tenant.limits is not None:
            now_s = time.monotonic()
            exceeded = self._limiter.check(tenant.name, tenant.limits, now_s)
            if exceeded is not None:
                raise self._refusal(exceeded, tenant.name, tenant.limits, path, now_s)

    def admit(self, tenant: Tenant, exchange: Exchange) -> Sequence[Permit]:
        """Counts a request by its expected tokens, and adds to the response headers what is left of
        the tenant's limits, or else the adapter's. The caller must `end` each permit. Raises
        ApiError if a limit would be exceeded."""
        limited: list[tuple[str, TenantLimits, str | None]] = []
        if tenant.limits is not None:
            limited.append((tenant.name, tenant.limits, None))
        if exchange.adapter is not None and exchange.adapter.declared.limits is not None:
            name = exchange.adapter.name
            limited.append((adapter_key(name), exchange.adapter.declared.limits, name))
        if not limited:
            return ()
        now_s, path, work = time.monotonic(), exchange.record.path, exchange.demand.work
        tokens = work.prompt_tokens + work.output_tokens
        permits: list[Permit] = []
        for key, limits, model in limited:
            permit = self._limiter.admit(key, limits, tokens, now_s)
            if isinstance(permit, Exceeded):
                for other in permits:
                    self._limiter.end(other, 0, now_s, refused=True)
                raise self._refusal(permit, key, limits, path, now_s, model)
            permits.append(permit)
        key, limits, _ = limited[0]
        exchange.headers += self._headers(key, limits, path, now_s)
        return permits

    def end(self, permit: Permit, record: RequestRecord) -> None:
        """Counts what the request used. A prompt that was sent to an engine counts even if the
        client left before the engine said its length, and does not if the engine refused it."""
        tokens = record.input_tokens + record.output_tokens
        is_read = record.replica is not None and (record.status or 0) < 400
        if is_read and not record.input_tokens:
            tokens += record.prompt_tokens or 0
        is_refused = record.outcome in _NOT_SERVED
        self._limiter.end(permit, 0 if is_refused else tokens, time.monotonic(), refused=is_refused)

    def _refusal(
        self,
        exceeded: Exceeded,
        key: str,
        limits: TenantLimits,
        path: str,
        now_s: float,
        model: str | None = None,
    ) -> ApiError:
        error = errors.limited(exceeded, model)
        error.more_headers += self._headers(key, limits, path, now_s)
        return error

    def _headers(self, key: str, limits: TenantLimits, path: str, now_s: float) -> Headers:
        requests = self._limiter.requests(key, limits, now_s)
        tokens = self._limiter.tokens(key, limits, now_s)
        return rate_limit_headers(path, requests, tokens)

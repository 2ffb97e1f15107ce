"""Tenants, identified by their API keys."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from serving.asgi import Headers
from serving.config import TenantConfig
from serving.dispatch import PRIORITIES, TenantLimits
from serving.router.http import errors

_BEARER = b"bearer "


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    max_priority: int = PRIORITIES - 1
    weight: float = 1.0
    limits: TenantLimits | None = None


ANYONE = Tenant("default")
"""The only tenant when none is configured."""


class Tenants:
    """Maps API keys to tenants. With none configured, every client is `ANYONE`, whatever it
    sends."""

    def __init__(self, configs: Iterable[TenantConfig]) -> None:
        """Reads the keys and keeps only their hashes. Raises RuntimeError if a key is missing or
        belongs to two tenants."""
        self._by_hash: dict[bytes, Tenant] = {}
        self.names: list[str] = []
        for config in configs:
            tenant = Tenant(config.name, config.max_priority, config.weight, config.limits)
            self.names.append(tenant.name)
            for key in _keys(config):
                other = self._by_hash.setdefault(sha256(key).digest(), tenant)
                if other is not tenant:
                    raise RuntimeError(f"tenants {other.name} and {tenant.name} have the same key")
        self.names = self.names or [ANYONE.name]

    @property
    def are_configured(self) -> bool:
        """Whether tenants are configured, so that a key is required."""
        return bool(self._by_hash)

    def of(self, headers: Headers) -> Tenant:
        """Returns the tenant that these headers identify. Raises ApiError 401."""
        if not self._by_hash:
            return ANYONE
        for key in _sent(headers):
            tenant = self._by_hash.get(sha256(key).digest())
            if tenant is not None:
                return tenant
        raise errors.unauthorized()


def _sent(headers: Headers) -> Iterator[bytes]:
    """Yields the API keys in the headers that the OpenAI, Anthropic and Azure clients send."""
    for name, value in headers:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            yield value[len(_BEARER) :].strip()
        elif name in (b"x-api-key", b"api-key"):
            yield value


def _keys(config: TenantConfig) -> list[bytes]:
    if config.api_keys_file is not None:
        where = f"the file {config.api_keys_file}"
        try:
            text = Path(config.api_keys_file).read_text()
        except OSError as error:
            raise RuntimeError(
                f"tenant {config.name}: {where} with its API keys cannot be read where the router "
                f"runs: {error.strerror}"
            ) from None
    else:
        where = f"the environment variable {config.api_keys_env}"
        text = os.environ.get(config.api_keys_env or "", "")
    keys = text.encode().split()
    if not keys:
        raise RuntimeError(f"tenant {config.name}: {where} has no API key where the router runs")
    return keys

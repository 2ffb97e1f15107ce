"""Salts that keep tenants from learning each other's prompts from the caches that they share."""

import hmac
from dataclasses import dataclass

from serving.engine_protocol import CACHE_SALT


@dataclass(frozen=True, slots=True)
class CacheSalt:
    """The salt of a tenant's requests."""

    header: bytes = b""
    """The line of an engine's request; empty without a salt."""
    seed: int = 0
    """The salt of hashes in the routers: signed, 64 bits; 0 without a salt."""


_NONE = CacheSalt()


class CacheSalts:
    """Derives each tenant's salt from the engines' token, so that all routers of a cluster have the
    same and no client can compute one."""

    def __init__(self, engine_token: str, tenants: int) -> None:
        """There are no salts for less than two `tenants`."""
        self._token = engine_token.encode()
        self._salted = tenants > 1
        self._salts: dict[str, CacheSalt] = {}

    def of(self, tenant: str) -> CacheSalt:
        if not self._salted:
            return _NONE
        salt = self._salts.get(tenant)
        if salt is None:
            digest = hmac.digest(self._token, b"cache-salt/" + tenant.encode(), "sha256")
            # Engines and routers get different parts, as routers send each other their hashes.
            line = b"%b: %b\r\n" % (CACHE_SALT, digest[:16].hex().encode())
            seed = int.from_bytes(digest[16:24], signed=True)
            salt = self._salts[tenant] = CacheSalt(line, seed)
        return salt

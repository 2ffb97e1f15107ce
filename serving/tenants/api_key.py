"""API keys: how they are made, and what is kept of them.

A key has 256 random bits, so its SHA-256 identifies it and tells nothing of it. A salt, a slow hash
or a secret beside the hashes would defend against lists of likely keys, of which there is none.
"""

import math
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from serving.dispatch import PRIORITIES
from serving.tenants.caller import Caller
from serving.tenants.tenant import TENANT_NAME, Tenant

_ID_BYTES = 4
_SECRET_BYTES = 32
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}

_Time = Annotated[datetime, Meta(tz=True)]
_Name = Annotated[str, Meta(min_length=1)]
_Path = Annotated[str, Meta(pattern=r"^/[!-~]*[!-.0-~]$")]


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of a key: all but the key."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}$")]
    """The part of the key by which people and the request log name it."""
    tenant: Annotated[str, Meta(pattern=TENANT_NAME)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    created: _Time
    expires: _Time | None = None
    models: Annotated[tuple[_Name, ...], Meta(min_length=1)] | None = None
    """Names of the only models that it may use."""
    endpoints: Annotated[tuple[_Path, ...], Meta(min_length=1)] | None = None
    """The only paths that it may use, and those below them."""
    max_priority: Annotated[int, Meta(ge=0, lt=PRIORITIES)] | None = None

    def caller(self, tenant: Tenant) -> Caller:
        own = tenant.max_priority if self.max_priority is None else self.max_priority
        return Caller(
            tenant,
            min(own, tenant.max_priority),
            self.id,
            None if self.models is None else frozenset(self.models),
            self.endpoints,
            math.inf if self.expires is None else self.expires.timestamp(),
        )


def digest(key: bytes) -> bytes:
    """Returns the hash by which a key is looked up. The time of a look-up tells nothing of keys."""
    return sha256(key).digest()


def new_key(properties: ApiKey, used_ids: Iterable[str]) -> tuple[str, ApiKey]:
    """Returns a key, which is kept nowhere, and `properties` with its id and hash in place of their
    own."""
    key_id = secrets.token_hex(_ID_BYTES)
    while key_id in used_ids:
        key_id = secrets.token_hex(_ID_BYTES)
    key = f"sk-{key_id}-{secrets.token_urlsafe(_SECRET_BYTES)}"
    hashed = digest(key.encode()).hex()
    return key, msgspec.structs.replace(properties, id=key_id, sha256=hashed)


def rotated(old: ApiKey, now: datetime, grace: timedelta) -> tuple[ApiKey, ApiKey]:
    """Returns `old` as it expires after `grace`, and the properties of its successor, which lasts
    as long as `old` was made for."""
    lifetime = None if old.expires is None else old.expires - old.created
    successor = msgspec.structs.replace(
        old, created=now, expires=None if lifetime is None else now + lifetime
    )
    ends = now + grace
    if old.expires is not None:
        ends = min(ends, old.expires)
    return msgspec.structs.replace(old, expires=ends), successor


def callers(
    keys: Iterable[ApiKey], tenants: Mapping[str, Tenant]
) -> tuple[dict[bytes, Caller], dict[bytes, str]]:
    """Returns who comes with a key of each hash, and of the keys whose tenant is not configured
    the hash and that tenant's name."""
    known: dict[bytes, Caller] = {}
    unknown: dict[bytes, str] = {}
    for key in keys:
        hashed, tenant = bytes.fromhex(key.sha256), tenants.get(key.tenant)
        if tenant is None:
            unknown[hashed] = key.tenant
        else:
            known[hashed] = key.caller(tenant)
    return known, unknown


def duration(text: str) -> timedelta:
    """Reads `30m`, `12h` or `90d`. Raises ValueError."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if found is None:
        raise ValueError(f"'{text}' is no duration such as 30m, 12h or 90d")
    return int(found[1]) * _UNITS[found[2]]

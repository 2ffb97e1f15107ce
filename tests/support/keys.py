"""Keys files with keys that a test knows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.tenants import key_file
from serving.tenants.api_key import ApiKey, digest
from serving.tenants.authentication_config import AuthenticationConfig

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def key_record(key: str, tenant: str, **properties: Any) -> ApiKey:
    """Returns what is kept of `key`. Its id is the beginning of its hash."""
    hashed = digest(key.encode()).hex()
    return ApiKey(hashed[:8], tenant, hashed, CREATED, **properties)


def key_id(key: str) -> str:
    return key_record(key, "any").id


def keys_of(folder: Path, *keys: ApiKey) -> AuthenticationConfig:
    """Writes a keys file, in place of the one that is there, and returns the settings that name
    it."""
    path = folder / "keys.json"
    key_file.change(path, lambda _: keys)
    return AuthenticationConfig(keys_file=str(path))

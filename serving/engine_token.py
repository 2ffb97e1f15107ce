"""The secret between routers and engines of one Ray cluster."""

import secrets

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

_KEY = b"mistral-serve/engine-token"


def engine_token() -> str:
    """The cluster's token: made at first use and kept by Ray's head, so that it survives new
    replicas and rollouts and is in no manifest, config or environment.
    """
    _internal_kv_put(_KEY, secrets.token_urlsafe(32).encode(), overwrite=False)
    return bytes(_internal_kv_get(_KEY)).decode()

"""Keeps responses in a Redis that the routers of all nodes share."""

import time
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError
from redis.retry import Retry

from serving.router.responses import redis_scripts as scripts
from serving.router.responses.store import StoredResponse, StoreError

LARGEST_BYTES = 16 * 1024**2
"""Redis and its scripts hold a response several times while it passes."""
OVERHEAD_BYTES = 1024
"""What Redis needs of a response beside its content, at most."""
_CONNECT_TIMEOUT_S = 0.5
_TIMEOUT_S = 2.0
_AWAY_S = 2.0
"""After a failure, calls fail at once for this long: answers do not wait for a Redis that is
away."""


class RedisStore:
    """A `ResponseStore` in Redis. To be called by one thread at a time.

    It keeps `max_bytes` in total, an equal share of that for each of `tenants`, and everything for
    `keep_s` at most; the oldest responses go first. Redis must have memory for `max_bytes` beside
    what else it holds, and evict nothing. Its own clock counts, unless `clock` is given.
    """

    def __init__(
        self,
        url: str,
        password: str | None,
        keep_s: float,
        max_bytes: int,
        tenants: int = 1,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._where = urlsplit(url).netloc.rpartition("@")[2]
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._share_bytes = max_bytes // max(tenants, 1)
        self._clock = clock
        self._away_until_s = 0.0
        self._why = ""
        # A kept connection may have ended unnoticed. A call that took too long is not repeated.
        self._redis = Redis.from_url(
            url,
            password=password,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1, (ConnectionError,)),
            protocol=2,
            driver_info=None,
        )
        self._scripts: dict[str, Callable[..., Any]] = {}

    @property
    def largest_bytes(self) -> int:
        return min(self._share_bytes - OVERHEAD_BYTES, LARGEST_BYTES)

    def put(self, stored: StoredResponse) -> bool:
        if stored.size_bytes > self.largest_bytes:
            return False
        self._write(scripts.PUT, stored, input=stored.input)
        return True

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        if not response_id.isascii():  # a lone surrogate cannot be sent
            return None
        fields = ("status", "input", "response", "previous_id", "background")
        found = self._call(scripts.GET, _name(tenant, response_id), *fields)
        if found is None:
            return None
        silent_s, status, kept_input, response, previous_id, background = found
        return StoredResponse(
            tenant,
            response_id,
            status.decode(),
            kept_input,
            response,
            previous_id.decode() or None,
            background == b"1",
            float(silent_s),
        )

    def delete(self, tenant: str, response_id: str) -> bool:
        if not response_id.isascii():
            return False
        return bool(self._call(scripts.DELETE, _name(tenant, response_id)))

    def advance(self, stored: StoredResponse) -> bool:
        return bool(self._write(scripts.ADVANCE, stored))

    def seen(self, running: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        keys = list(running)
        places = self._call(scripts.SEEN, *(_name(*key) for key in keys))
        return {keys[place] for place in places}

    def expire(self) -> None:
        while self._call(scripts.EXPIRE):
            pass

    def close(self) -> None:
        self._redis.close()

    def _write(self, script: str, stored: StoredResponse, **more: bytes) -> Any:
        fields: dict[str, str | bytes] = {
            "status": stored.status,
            "response": stored.response,
            "previous_id": stored.previous_id or "",
            "background": str(int(stored.background)),
            **more,
        }
        return self._call(
            script,
            _name(stored.tenant, stored.response_id),
            stored.size_bytes + OVERHEAD_BYTES,
            self._share_bytes,
            self._max_bytes,
            *(part for field in fields.items() for part in field),
        )

    def _call(self, script: str, *arguments: str | bytes | int) -> Any:
        """Runs a script in Redis."""
        if time.monotonic() < self._away_until_s:
            raise StoreError(self._why)
        now_s = "" if self._clock is None else self._clock()
        try:
            run = self._scripts.get(script)
            if run is None:
                run = self._scripts[script] = self._redis.register_script(script)
            done = run(args=(self._keep_s, now_s, *arguments))
        except RedisError as error:
            # Redis repeats the arguments of a command that it does not know.
            why = str(error).partition(", with args")[0]
            self._why = f"Redis at {self._where}: {why}"
            if isinstance(error, ConnectionError | TimeoutError):
                self._away_until_s = time.monotonic() + _AWAY_S
            raise StoreError(self._why) from None
        return done


def _name(tenant: str, response_id: str) -> str:
    return f"{tenant}/{response_id}"

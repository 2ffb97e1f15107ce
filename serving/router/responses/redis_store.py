"""Keeps responses in a Redis that the routers of all nodes share."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError
from redis.retry import Retry

from serving.router.responses import redis_scripts as scripts
from serving.router.responses.store import (
    MOST_EVENTS,
    NO_NEWS,
    Claim,
    Key,
    News,
    StoredResponse,
    StoreError,
)

LARGEST_BYTES = 16 * 1024**2
"""Redis and its scripts hold a response several times while it passes."""
OVERHEAD_BYTES = 1024
"""What Redis needs of a response beside its content, at most."""
_CONNECT_TIMEOUT_S = 0.5
_TIMEOUT_S = 2.0
_FIELDS = ("status", "input", "response", "previous_id", "background", "owner")
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

    def put(
        self, stored: StoredResponse, request: bytes = b"", events: Sequence[bytes] = ()
    ) -> bool:
        size_bytes = stored.size_bytes + len(request)
        if size_bytes + sum(map(len, events)) > self.largest_bytes:
            return False
        news = News(0, events)
        more = {"input": stored.input} | ({"request": request} if request else {})
        self._write(scripts.PUT, stored, size_bytes, news, **more)
        return True

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        if not response_id.isascii():  # a lone surrogate cannot be sent
            return None
        found = self._call(scripts.GET, _name(tenant, response_id), *_FIELDS)
        return None if found is None else _stored((tenant, response_id), found)

    def delete(self, tenant: str, response_id: str) -> bool:
        if not response_id.isascii():
            return False
        return bool(self._call(scripts.DELETE, _name(tenant, response_id)))

    def advance(self, stored: StoredResponse, news: News = NO_NEWS) -> bool:
        return bool(self._write(scripts.ADVANCE, stored, stored.size_bytes, news))

    def report(self, owner: str, running: Mapping[Key, News]) -> set[Key]:
        arguments: list[str | bytes | int] = []
        for key, news in running.items():
            arguments += (_name(*key), news.first, len(news.events), *news.events)
        limits = self._share_bytes, self._max_bytes
        places = self._call(scripts.REPORT, owner, *limits, *arguments)
        keys = list(running)
        return {keys[place] for place in places}

    def events(self, tenant: str, response_id: str, first: int) -> tuple[str, list[bytes]] | None:
        if not response_id.isascii():
            return None
        last = first + MOST_EVENTS - 1
        found = self._call(scripts.EVENTS, _name(tenant, response_id), first, last)
        return None if found is None else (found[0].decode(), found[1])

    def claim(self, owner: str, silent_s: float) -> Claim | None:
        found = self._call(scripts.CLAIM, owner, str(silent_s), *_FIELDS, "request")
        if found is None:
            return None
        name, claims, events, *fields, request = found
        tenant, _, response_id = name.decode().partition("/")
        return Claim(_stored((tenant, response_id), fields), request or b"", events, claims)

    def expire(self) -> None:
        while self._call(scripts.EXPIRE):
            pass

    def close(self) -> None:
        self._redis.close()

    def _write(
        self, script: str, stored: StoredResponse, size_bytes: int, news: News, **more: bytes
    ) -> Any:
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
            size_bytes + OVERHEAD_BYTES,
            self._share_bytes,
            self._max_bytes,
            news.first,
            len(news.events),
            *news.events,
            stored.owner,
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


def _stored(key: Key, fields: Sequence[bytes | None]) -> StoredResponse:
    """Returns a response of which Redis has these `_FIELDS`."""
    status, kept_input, response, previous_id, background, owner = (one or b"" for one in fields)
    return StoredResponse(
        *key,
        status.decode(),
        kept_input,
        response,
        previous_id.decode() or None,
        background == b"1",
        owner.decode(),
    )

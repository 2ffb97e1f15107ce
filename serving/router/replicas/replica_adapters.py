"""The adapters that a replica has loaded, as the router knows and wants them."""

import asyncio
import contextlib
import logging

import msgspec

from serving.adapters.adapter import Version
from serving.engine_protocol import ADAPTERS_PATH, EngineAdapters, NotLoaded, bearer
from serving.placement import ReplicaLoad
from serving.router.replicas.upstream import ConnectionPool, NotTakenError, UpstreamError, ask

log = logging.getLogger(__name__)

_ASK_TIMEOUT_S = 5.0
_LOAD_TIMEOUT_S = 120.0


class AdapterNotLoadedError(UpstreamError):
    """The replica is well, but does not load an adapter."""


class AdapterGoneError(NotTakenError):
    """The engine does not have the adapter of a request, or no longer."""


class ReplicaAdapters:
    """Has a replica load adapters, each once however many requests wait for it, and keeps what its
    load says of those that are there."""

    def __init__(self, load: ReplicaLoad, pool: ConnectionPool, engine_token: str) -> None:
        self._load = load
        self._pool = pool
        self._authorization = b"authorization: %b\r\n" % bearer(engine_token)
        self._loading: dict[str, asyncio.Task[None]] = {}

    async def ensure(self, version: Version) -> None:
        """Returns when the replica has the adapter. Raises AdapterNotLoadedError, or another
        UpstreamError if the replica cannot be asked."""
        digest = version.digest
        if digest in self._load.resident_adapters:
            return
        loading = self._loading.get(digest)
        if loading is None:
            loading = self._loading[digest] = asyncio.create_task(self._have_loaded(version))
            loading.add_done_callback(lambda _: self._loading.pop(digest, None))
        # The others that wait for it go on if the client of the first one leaves.
        await asyncio.shield(loading)

    def forget(self, digest: str) -> None:
        """Notes that the engine does not have an adapter."""
        self._load.resident_adapters = self._load.resident_adapters - {digest}

    async def refresh(self) -> None:
        """Asks the replica what it has. One that does not answer is left for others to judge."""
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                status, body = await self._ask(b"GET", b"")
            if status == 200:
                self._note(body)

    async def _have_loaded(self, version: Version) -> None:
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT_S):
                status, body = await self._ask(b"POST", msgspec.json.encode(version))
        except TimeoutError:
            raise AdapterNotLoadedError(f"it did not load within {_LOAD_TIMEOUT_S:g} s") from None
        if status == 200:
            self._note(body)
        elif status == 422:
            raise AdapterNotLoadedError(msgspec.json.decode(body, type=NotLoaded).reason)
        elif status in (401, 503):
            raise NotTakenError(f"it answers {status}")
        else:
            raise AdapterNotLoadedError(f"it answers {status}")

    def _note(self, body: bytes) -> None:
        told = msgspec.json.decode(body, type=EngineAdapters)
        self._load.resident_adapters = frozenset(told.resident)
        self._load.adapter_load_ms = told.load_ms

    async def _ask(self, method: bytes, body: bytes) -> tuple[int, bytes]:
        head = b"%b %b HTTP/1.1\r\nhost: engine\r\n%bcontent-length: %d\r\n\r\n"
        path = ADAPTERS_PATH.encode()
        return await ask(self._pool, head % (method, path, self._authorization, len(body)), body)

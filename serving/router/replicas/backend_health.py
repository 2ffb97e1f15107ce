"""Polls an external server's list of models to see whether it is up."""

import asyncio
import logging
from collections.abc import Callable

from serving.router.replicas.backend import Backend
from serving.router.replicas.replica import ReplicaInfo
from serving.router.replicas.upstream import ConnectionPool, UpstreamError, ask

PERIOD_S = 5.0
"""Time between two checks."""

_TIMEOUT_S = 10
_FAILURES_UNTIL_DOWN = 2
"""Consecutive failures after which the server counts as down, so that a busy server may miss one
check."""

log = logging.getLogger(__name__)


class BackendHealth:
    """Calls `listener` with the server as the only replica when it comes up, and with none when it
    goes down. Raises RuntimeError if its key is missing."""

    def __init__(
        self,
        backend: Backend,
        listener: Callable[[list[ReplicaInfo]], object],
        period_s: float = PERIOD_S,
    ) -> None:
        self._name = f"{backend.model} at {backend.host}:{backend.port}"
        self._replica = ReplicaInfo(
            f"{backend.host}:{backend.port}",
            backend.host,
            backend.port,
            backend.context_tokens,
            tls=backend.tls,
        )
        self._head = b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (
            backend.path("/v1/models"),
            backend.host_header,
            backend.authorization,
        )
        self._pool = ConnectionPool(backend.host, backend.port, _TIMEOUT_S, backend.tls)
        self._listener = listener
        self._period_s = period_s

    async def run(self) -> None:
        """Checks the server once per period until cancelled."""
        published: str | None = None  # the last problem published; "" while up
        failures = 0
        try:
            while True:
                problem = await self._problem()
                failures = failures + 1 if problem else 0
                still_up = published == "" and failures < _FAILURES_UNTIL_DOWN
                if problem != published and not still_up:
                    published = problem
                    log.warning("%s is %s", self._name, f"down: {problem}" if problem else "up")
                    self._listener([] if problem else [self._replica])
                await asyncio.sleep(self._period_s)
        finally:
            self._pool.close()

    async def _problem(self) -> str:
        """Returns what is wrong with the server; empty if nothing is."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, _ = await ask(self._pool, self._head, b"")
        except UpstreamError as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {_TIMEOUT_S} s"
        if status in (401, 403):
            return f"it answers {status}: check the key in the variable that api_key_env names"
        return "" if status == 200 else f"it answers {status}"

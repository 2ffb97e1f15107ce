"""Whether a server that runs elsewhere is up: it is asked for its models again and again."""

import asyncio
import logging
from collections.abc import Callable

from serving.router.replicas.backend import Backend
from serving.router.replicas.replica import ReplicaInfo
from serving.router.replicas.upstream import ConnectionPool, UpstreamError, ask

PERIOD_S = 5.0
"""Between two checks."""

_TIMEOUT_S = 10
_FAILURES_UNTIL_DOWN = 2
"""So that one lost answer of a busy server does not take it out."""

log = logging.getLogger(__name__)


class BackendHealth:
    """Tells `listener` of the server as the only replica when it comes up, of none when it goes
    down. Raises RuntimeError if its key is missing.
    """

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
        """Checks once each period until it is cancelled."""
        told: str | None = None  # the problem; "" while it is up
        failures = 0
        try:
            while True:
                problem = await self._problem()
                failures = failures + 1 if problem else 0
                still_up = told == "" and failures < _FAILURES_UNTIL_DOWN
                if problem != told and not still_up:
                    told = problem
                    log.warning("%s is %s", self._name, f"down: {problem}" if problem else "up")
                    self._listener([] if problem else [self._replica])
                await asyncio.sleep(self._period_s)
        finally:
            self._pool.close()

    async def _problem(self) -> str:
        """What is wrong with the server; empty if nothing is."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, _ = await ask(self._pool, self._head, b"")
        except UpstreamError as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {_TIMEOUT_S} s"
        if status in (401, 403):
            return f"it answers {status}: api_key_env names the variable with its key"
        return "" if status == 200 else f"it answers {status}"

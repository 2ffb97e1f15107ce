"""Decides whether a replica is given requests: ejected on failure, probed until it answers.

A failure that a request causes never ejects a replica. A connection that breaks in the middle of an
answer may be the request's doing, so the replica is only probed at once. It is ejected if the probe
fails, or if another replica served the request that failed here.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from serving.engine_protocol import bearer
from serving.router.replicas.upstream import ConnectionPool, UpstreamError, ask

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How replicas are probed."""

    engine_token: str
    backoff_s: float
    """How long a replica is ejected before it is probed again; doubled for each consecutive
    failure."""
    max_backoff_s: float = 60
    period_s: float = 5
    """Time between two probes of a replica that has work."""
    timeout_s: float = 10
    """A replica whose probe takes longer hangs: its requests move elsewhere."""

    @property
    def request(self) -> bytes:
        """The request that a healthy engine answers with 200 under any load."""
        head = b"GET /health HTTP/1.1\r\nhost: engine\r\nauthorization: %b\r\n\r\n"
        return head % bearer(self.engine_token)

    def backoff_after(self, failures: int) -> float:
        """Returns the backoff in seconds after a number of consecutive failures."""
        doublings = min(max(failures - 1, 0), 30)
        return min(self.backoff_s * 2.0**doublings, max(self.backoff_s, self.max_backoff_s))


class ReplicaHealth:
    """The health of one replica. An idle replica that has not failed is not probed."""

    def __init__(
        self,
        name: str,
        check: HealthCheck | None,
        probes: ConnectionPool,
        is_busy: Callable[[], bool],
        abort: Callable[[str], None],
        on_change: Callable[[], object],
    ) -> None:
        """`probes` are connections used for nothing else; `abort` ends the requests on a replica
        that hangs; `on_change` is called when `ejected` changes. Without a `check` the replica is
        never ejected: its health is watched elsewhere."""
        self.ejected = False
        self.answers = 0
        """The number of requests it has answered."""
        self._name = name
        self._check = check
        self._probes = probes
        self._is_busy = is_busy
        self._abort = abort
        self._on_change = on_change
        self._failures = 0
        self._removed = False
        self._watching: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Called when the replica is given work."""
        if self._watching is None and self._check is not None:
            self._watching = asyncio.create_task(self._watch(self._check))

    def answered(self) -> None:
        """Called when it answers a request."""
        self.answers += 1
        self._failures = 0

    def suspect(self) -> None:
        """Called when it failed a request that may itself be the cause: it is probed at once."""
        if self._check is not None and not self.ejected and self._asking is None:
            self._asking = asyncio.create_task(self._ask_now(self._check))

    async def is_well(self) -> bool:
        """Returns whether it is healthy, and probes it at once unless that is known or probing is
        off."""
        self.suspect()
        if self._asking is not None:
            await asyncio.wait([self._asking])
        return not self.ejected

    def failed(self) -> None:
        """Called when the failure is its own: it is ejected until it is healthy again."""
        if self._check is not None and not self.ejected:
            self._eject()
            self._watch_anew()

    def removed(self) -> None:
        """Called when it gets no more requests: it is watched until it has answered the last."""
        self._removed = True
        if not self._is_busy():
            self._stop()
            self._probes.close()

    def _watch_anew(self) -> None:
        self._stop()
        self.watch()

    def _stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _is_of_interest(self) -> bool:
        return self._is_busy() or (self.ejected and not self._removed)

    async def _watch(self, check: HealthCheck) -> None:
        while self._is_of_interest():
            backoff_s = check.backoff_after(self._failures)
            await asyncio.sleep(backoff_s if self.ejected else check.period_s)
            if self._is_of_interest():
                await self._ask(check)
        if self._removed:
            self._probes.close()
        self._watching = None

    async def _ask_now(self, check: HealthCheck) -> None:
        await self._ask(check)
        self._asking = None
        if self.ejected:
            self._watch_anew()

    def _eject(self) -> None:
        self._failures += 1
        self._set_ejected(True)

    def _set_ejected(self, ejected: bool) -> None:
        if ejected is not self.ejected:
            self.ejected = ejected
            self._on_change()

    async def _ask(self, check: HealthCheck) -> None:
        problem = ""
        try:
            async with asyncio.timeout(check.timeout_s):
                status, _ = await ask(self._probes, check.request, b"")
            if status != 200:
                # It drains or its engine died; answers in progress end by themselves.
                problem = f"it answers {status}"
        except TimeoutError:
            problem = f"no answer within {check.timeout_s:g} s"
            self._abort(problem)
        except UpstreamError as error:
            problem = str(error)
        if problem:
            log.warning("replica %s is ejected: %s", self._name, problem)
            self._eject()
        elif self.ejected:
            log.warning("replica %s is healthy again", self._name)
            self._set_ejected(False)

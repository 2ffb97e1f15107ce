"""Decides whether a replica is given requests: ejected on failure, probed until it answers.

A failure that a request causes never ejects a replica. A connection that breaks in the middle of an
answer may be the request's doing, so the replica is only probed at once. It is ejected if the probe
fails, or if another replica served the request that failed here.

A replica may say when it will be gone: because it drains, or because its node goes. One that does
not drain yet keeps taking requests as long as no other replica is up. A replica that Ray Serve has
removed is probed more often until it is idle, as it will soon drain and say for how long.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from serving.engine_protocol import DRAIN_LEFT, HEALTH_PATH, bearer
from serving.router.replicas.upstream import ConnectionPool, UpstreamError, read_all

log = logging.getLogger(__name__)

_DRAIN_PERIOD_S = 0.5
"""Time between two probes of a replica that leaves, or soon will."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How replicas are probed."""

    engine_token: str
    backoff_s: float
    """How long a replica is ejected before it is probed again; doubled for each consecutive
    failure."""
    max_backoff_s: float = 60
    period_s: float = 2
    """Time between two probes of a replica that has work. It adds to the time that streams take to
    leave a node that goes, of which clouds give notice 30 s before."""
    timeout_s: float = 10
    """A replica whose probe takes longer hangs: its requests move elsewhere."""

    @property
    def request(self) -> bytes:
        """The request that a healthy engine answers with 200 under any load."""
        head = b"GET %b HTTP/1.1\r\nhost: engine\r\nauthorization: %b\r\n\r\n"
        return head % (HEALTH_PATH.encode(), bearer(self.engine_token))

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
        on_leave: Callable[[float], object],
    ) -> None:
        """`probes` are connections used for nothing else; `abort` ends the requests on a replica
        that hangs; `on_change` is called when `ejected` or `leaving` changes, and `on_leave`
        with the seconds until a replica that leaves cuts off its answers, as often as it says so.
        Without a `check` the replica is never ejected: its health is watched elsewhere."""
        self.ejected = False
        self.leaving = False
        """Whether it said when it cuts off its answers."""
        self.answers = 0
        """The number of requests it has answered."""
        self._name = name
        self._check = check
        self._probes = probes
        self._is_busy = is_busy
        self._abort = abort
        self._on_change = on_change
        self._on_leave = on_leave
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
        elif self._check is not None:
            self._watch_anew()

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
            await asyncio.sleep(self._pause_s(check))
            if self._is_of_interest():
                await self._ask(check)
        if self._removed:
            self._probes.close()
        self._watching = None

    def _pause_s(self, check: HealthCheck) -> float:
        """Returns the time until the next probe."""
        if self.leaving or (self._removed and not self.ejected):
            return min(_DRAIN_PERIOD_S, check.period_s)
        return check.backoff_after(self._failures) if self.ejected else check.period_s

    async def _ask_now(self, check: HealthCheck) -> None:
        await self._ask(check)
        self._asking = None
        if self.ejected:
            self._watch_anew()

    def _eject(self) -> None:
        self._failures += 1
        self._set_ejected(True)

    def _set_ejected(self, ejected: bool, leaving: bool = False) -> None:
        if (ejected, leaving) != (self.ejected, self.leaving):
            self.ejected, self.leaving = ejected, leaving
            self._on_change()

    async def _ask(self, check: HealthCheck) -> None:
        problem = ""
        try:
            async with asyncio.timeout(check.timeout_s):
                status, left_s = await self._probe(check.request)
            if left_s is not None:
                self._leaves(left_s, drains=status != 200)
                return
            if status != 200:
                # Its engine died; answers in progress end by themselves.
                problem = f"it answers {status}"
        except TimeoutError:
            problem = f"no answer within {check.timeout_s:g} s"
            self._abort(problem)
        except UpstreamError as error:
            problem = str(error)
        if problem:
            log.warning("replica %s is ejected: %s", self._name, problem)
            self._eject()
        else:
            if self.ejected:
                log.warning("replica %s is healthy again", self._name)
            self._set_ejected(False)

    async def _probe(self, request: bytes) -> tuple[int, int | None]:
        """Returns the status of the answer and, if the replica leaves, the seconds until it cuts
        off its answers. Raises UpstreamError."""
        connection = await self._probes.request(request, b"")
        try:
            await read_all(connection)
            left_s = dict(connection.headers).get(DRAIN_LEFT, b"")
            return connection.status, int(left_s) if left_s.isdigit() else None
        finally:
            self._probes.release(connection)

    def _leaves(self, left_s: int, drains: bool) -> None:
        if not self.leaving:
            log.warning("replica %s leaves within %d s", self._name, left_s)
        self._set_ejected(drains, leaving=True)
        self._on_leave(left_s)

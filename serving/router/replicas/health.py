"""Whether an engine replica is given requests: left out when it fails, asked until it answers.

What a request does to a replica never lowers its health. A connection that breaks amid an answer
may be the request's doing, so the replica is only asked at once whether it is well. It is left out
if it is not, or if another replica served the request that failed here.
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
    """How replicas are asked."""

    engine_token: str
    hold_off_s: float
    """How long a replica is left out before it is asked again: the first time, then twice as long
    each time in a row that it failed."""
    max_hold_off_s: float = 60
    period_s: float = 5
    """Between two questions to a replica that has work."""
    timeout_s: float = 10
    """A replica that is silent for longer hangs: its answers are looked for elsewhere."""

    @property
    def request(self) -> bytes:
        """What a healthy engine answers with 200, whatever its load."""
        head = b"GET /health HTTP/1.1\r\nhost: engine\r\nauthorization: %b\r\n\r\n"
        return head % bearer(self.engine_token)

    def hold_off_after(self, failures: int) -> float:
        """Seconds, after so many failures in a row."""
        doublings = min(max(failures - 1, 0), 30)
        return min(self.hold_off_s * 2.0**doublings, max(self.hold_off_s, self.max_hold_off_s))


class ReplicaHealth:
    """Of one replica. Nothing is asked of one that has nothing to do and has not failed."""

    def __init__(
        self,
        name: str,
        check: HealthCheck | None,
        probes: ConnectionPool,
        is_busy: Callable[[], bool],
        give_up: Callable[[str], None],
        on_change: Callable[[], object],
    ) -> None:
        """`probes` are connections of its own; `give_up` ends what waits for a replica that
        hangs; `on_change` is called when `left_out` changes. Without a `check` it is never left
        out: others know of its health."""
        self.left_out = False
        self.answers = 0
        """How many requests it has answered."""
        self._name = name
        self._check = check
        self._probes = probes
        self._is_busy = is_busy
        self._give_up = give_up
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
        """Called when it failed a request that may itself be the cause: it is asked at once."""
        if self._check is not None and not self.left_out and self._asking is None:
            self._asking = asyncio.create_task(self._ask_now(self._check))

    async def is_well(self) -> bool:
        """Asks it at once whether it is well, unless that is known or nobody may ask."""
        self.suspect()
        if self._asking is not None:
            await asyncio.wait([self._asking])
        return not self.left_out

    def failed(self) -> None:
        """Called when the failure is its own: it is left out until it is healthy again."""
        if self._check is not None and not self.left_out:
            self._leave_out()
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
        return self._is_busy() or (self.left_out and not self._removed)

    async def _watch(self, check: HealthCheck) -> None:
        while self._is_of_interest():
            hold_off_s = check.hold_off_after(self._failures)
            await asyncio.sleep(hold_off_s if self.left_out else check.period_s)
            if self._is_of_interest():
                await self._ask(check)
        if self._removed:
            self._probes.close()
        self._watching = None

    async def _ask_now(self, check: HealthCheck) -> None:
        await self._ask(check)
        self._asking = None
        if self.left_out:
            self._watch_anew()

    def _leave_out(self) -> None:
        self._failures += 1
        self._set_left_out(True)

    def _set_left_out(self, left_out: bool) -> None:
        if left_out is not self.left_out:
            self.left_out = left_out
            self._on_change()

    async def _ask(self, check: HealthCheck) -> None:
        problem = ""
        try:
            async with asyncio.timeout(check.timeout_s):
                status, _ = await ask(self._probes, check.request, b"")
            if status != 200:
                # It drains or its engine died; what it still answers, it will end itself.
                problem = f"it answers {status}"
        except TimeoutError:
            problem = f"it is silent for {check.timeout_s:g} s"
            self._give_up(problem)
        except UpstreamError as error:
            problem = str(error)
        if problem:
            log.warning("replica %s is left out: %s", self._name, problem)
            self._leave_out()
        elif self.left_out:
            log.warning("replica %s is healthy again", self._name)
            self._set_left_out(False)

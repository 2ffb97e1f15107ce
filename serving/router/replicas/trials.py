"""Has a model's suspects wait for their verdict, and tries those whose turn it is."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

from serving.poison import Death, PoisonGuard
from serving.router.http import errors
from serving.router.replicas.replica import Replica

log = logging.getLogger(__name__)

_MOST_ANSWERED = 4096
_PATIENCE = 2.0
"""How many start-ups a suspect waits for a replica with nothing to lose."""


class Trials:
    """The futures and the timer around a `PoisonGuard`."""

    def __init__(
        self,
        model_id: str,
        replicas: Callable[[], Iterable[Replica]],
        on_change: Callable[[], object],
        startup_s: float,
        max_wait_s: float,
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`replicas` returns those that are up; `on_change` is called when another one, or none,
        is quarantined."""
        self.guard = PoisonGuard(secrets.randbits(63), keep_s, _PATIENCE * startup_s)
        self.refused = 0
        """How many requests were refused as guilty."""
        self.quarantined: str | None = None
        """The replica that takes no requests but the suspects that are tried on it."""
        self._model_id = model_id
        self._replicas = replicas
        self._on_change = on_change
        self._longest_s = _PATIENCE * startup_s + max_wait_s
        self._clock = clock
        self._answered: set[int] = set()
        """The prompts of the latest requests that engines have answered."""
        self._answered_before: set[int] = set()
        self._waiting: dict[bytes, list[asyncio.Future[Replica | None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def check(self, digest: bytes) -> None:
        """Raises ApiError if the request is known to end engines."""
        guilty = self.guard.find(digest, self._clock())
        if guilty is not None:
            self.refused += 1
            raise errors.crashes_engine(guilty.reason)

    def knows(self, digest: bytes) -> bool:
        """Whether the request is a suspect or guilty."""
        return self.guard.is_suspect(digest) or self.guard.find(digest, self._clock()) is not None

    async def turn(self, digest: bytes, timeout_s: float | None) -> Replica | None:
        """Waits for the turn of a suspect, and returns the replica to try it on; None if it is no
        longer a suspect. The caller then calls `passed`, `died` or `ended`. Raises ApiError if it
        is guilty, and if no replica has come to try it on."""
        self.check(digest)
        if not self.guard.is_suspect(digest):
            return None
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(digest, []).append(future)
        self.guard.wait(digest, True, self._clock())
        self.poll()
        longest_s = self._longest_s if timeout_s is None else min(self._longest_s, timeout_s)
        try:
            async with asyncio.timeout(longest_s):
                replica: Replica | None = await future
        except TimeoutError:
            raise errors.no_replica(self._model_id, 1) from None
        finally:
            self._leave(digest, future)
        if replica is None:
            self.check(digest)
        return replica

    def died(self, digest: bytes, shape: int, death: Death, prompt: int, begun: bool) -> None:
        """See `PoisonGuard.died`."""
        answered = prompt in self._answered or prompt in self._answered_before
        self.guard.died(digest, shape, death, self._clock(), begun, answered)
        self.poll()

    def answered(self, prompt: int) -> None:
        """Notes that an engine has answered this prompt."""
        self._answered.add(prompt)
        if len(self._answered) >= _MOST_ANSWERED:
            self._answered_before, self._answered = self._answered, set()

    def left(self, digest: bytes, shape: int, replica: Replica) -> None:
        """See `PoisonGuard.left`."""
        self.guard.left(digest, shape, replica.info.replica_id, self._clock())

    def passed(self, digest: bytes) -> None:
        """See `PoisonGuard.passed`."""
        self.guard.passed(digest)
        self.poll()

    def ended(self, digest: bytes) -> None:
        """See `PoisonGuard.ended`."""
        self.guard.ended(digest)
        self.poll()

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their turn or a verdict."""
        return sum(map(len, self._waiting.values()))

    def update(self, builds: Mapping[str, str]) -> None:
        """Sets the replicas that are up, and the build of each."""
        now_s = self._clock()
        self.guard.update(builds, now_s)
        self.quarantined = self.guard.quarantined(now_s)

    def forget(self, router_id: str) -> None:
        """Forgets the suspects of a router that is gone."""
        self.guard.forget(router_id)
        self.poll()

    def poll(self) -> None:
        """Ends the waits that are over, and sets the timer for the next."""
        now_s = self._clock()
        up = {one.info.replica_id: one for one in self._replicas() if not one.health.ejected}
        trial = self.guard.poll(now_s, {name: one.load.requests for name, one in up.items()})
        if trial is not None:
            log.warning("a suspect of an engine's death is tried on %s", trial.replica_id)
            waits = [one for one in self._waiting.get(trial.digest, ()) if not one.done()]
            if waits:
                waits[0].set_result(up[trial.replica_id])
            else:
                self.guard.ended(trial.digest)
        for digest, futures in self._waiting.items():
            if not self.guard.is_suspect(digest):
                for future in futures:
                    if not future.done():
                        future.set_result(None)
        quarantined = self.guard.quarantined(now_s)
        if quarantined != self.quarantined:
            self.quarantined = quarantined
            self._on_change()
        due_s = self.guard.next_due_s(now_s)
        if due_s is not None and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(due_s - now_s, self._wake_up)

    def _wake_up(self) -> None:
        self._timer = None
        self.poll()

    def _leave(self, digest: bytes, future: "asyncio.Future[Replica | None]") -> None:
        futures = self._waiting[digest]
        futures.remove(future)
        if not futures:
            del self._waiting[digest]
        self.guard.wait(digest, bool(futures), self._clock())

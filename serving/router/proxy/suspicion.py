"""Tells which requests an engine may have died of, and keeps them from the others until they are
tried."""

import asyncio
import time

from serving.dispatch import Outcome, Reservation
from serving.poison import SETTLE_S, Death, Digests, Reason
from serving.router.proxy.exchange import Exchange
from serving.router.proxy.request import decode
from serving.router.proxy.stream_resumption import NotContinuedError
from serving.router.replicas.replica import Replica
from serving.router.replicas.upstream import EngineDeadError, NotTakenError, UpstreamError

_STEPS_S = 30.0
"""How long a request may have been on a replica, without a byte of its answer, to count as in its
last steps where the engine cannot say it: longer than a hang takes to be noticed."""


class Suspicion:
    """Admits requests as `ServedModel.admit` does, but refuses those that end engines, and has
    suspects wait until they are tried or cleared."""

    def __init__(self, secret: str) -> None:
        """`secret` is the cluster's."""
        self._digests = Digests(secret)

    async def admit(self, exchange: Exchange) -> tuple[Reservation, Replica]:
        """Waits until the request is placed. `exchange.suspect` is then set if that is its trial.
        Raises ApiError."""
        served = exchange.served
        trials = served.trials
        while True:
            if self._is_suspicious(exchange):
                exchange.suspect = self._digest(exchange)
                placed = await served.admit_suspect(exchange.suspect, exchange.demand)
                if placed is not None:
                    return placed
            exchange.suspect = None
            placed = await served.admit(exchange.demand)
            if not self._is_suspicious(exchange) or not trials.knows(self._digest(exchange)):
                return placed
            served.release(placed[0], Outcome.FAILED)  # It became a suspect while it waited.

    async def arises(self, exchange: Exchange, replica: Replica, error: UpstreamError) -> bool:
        """Returns whether the request must be admitted anew after `error`, and not simply move to
        another replica: the engine may have died of it, or of another one like it."""
        if exchange.served.model.backend is not None:
            return False
        if isinstance(error, EngineDeadError):
            if error.suspects == 0:
                if not exchange.begun:
                    await asyncio.sleep(SETTLE_S)  # Others may report one like it.
                return not exchange.begun
            self._accuse(exchange, replica, error.reason, error.suspects)
            return True
        if isinstance(error, NotTakenError | NotContinuedError):
            return exchange.suspect is not None
        if self._may_be_the_cause(exchange, replica) and not await replica.health.is_well():
            self._accuse(exchange, replica, "unreachable", None)
            return True
        return exchange.suspect is not None

    def _may_be_the_cause(self, exchange: Exchange, replica: Replica) -> bool:
        """Whether the engine may have died of the request, as far as the router can see: if it was
        in its prefill, or another has died during its answer, too."""
        if exchange.begun:
            return bool(_died_before(exchange, replica))
        return time.monotonic() - exchange.sent_s < _STEPS_S

    def left(self, exchange: Exchange, replica: Replica) -> None:
        """Notes that the client left before a byte of the answer."""
        if exchange.served.model.backend is None and not exchange.begun:
            digest = self._digest(exchange)
            exchange.served.trials.left(digest, exchange.shape, replica)

    def _accuse(self, exchange: Exchange, replica: Replica, reason: Reason, of: int | None) -> None:
        digest, exchange.suspect = self._digest(exchange), None
        for one in [*_died_before(exchange, replica), replica]:
            death = Death(one.info.replica_id, reason, of)
            exchange.served.trials.died(
                digest, exchange.shape, death, exchange.prompt, exchange.begun
            )

    @staticmethod
    def _is_suspicious(exchange: Exchange) -> bool:
        suspicious = exchange.served.trials.guard.suspicious
        return bool(suspicious) and exchange.shape in suspicious

    def _digest(self, exchange: Exchange) -> bytes:
        body = decode(exchange.request.body)
        model_id = exchange.served.model.model_id
        return self._digests.of(model_id, exchange.record.path, body)


def _died_before(exchange: Exchange, replica: Replica) -> list[Replica]:
    """Returns the replicas other than `replica` that died during the answer."""
    if not exchange.begun:
        return []
    failed = (one.replica for one in exchange.failed_attempts if one.begun)
    return [one for one in dict.fromkeys(failed) if one is not replica and one.health.ejected]


def passes(exchange: Exchange) -> None:
    """Notes that the answer has begun, after which a suspect is one no longer."""
    exchange.served.trials.answered(exchange.prompt)
    if exchange.suspect is not None:
        exchange.served.trials.passed(exchange.suspect)
        exchange.suspect = None


def ends(exchange: Exchange) -> None:
    """Notes that an attempt is over, which ends a trial without a result if it had none."""
    if exchange.suspect is not None:
        exchange.served.trials.ended(exchange.suspect)
        exchange.suspect = None

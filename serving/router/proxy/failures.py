"""What follows from a failed attempt, for the replica and for the request."""

from serving.router.http import errors
from serving.router.proxy.exchange import Exchange, FailedAttempt
from serving.router.proxy.retry_budget import RetryBudget
from serving.router.proxy.stream_resumption import NotContinuedError
from serving.router.replicas.replica import Replica
from serving.router.replicas.upstream import EngineDeadError, NotTakenError, UpstreamError

_MAX_RETRIES = 3
"""Retry limit for failures that the request itself may cause without ending an engine."""


class Failures:
    """Judges replicas by the requests that they fail, and limits retries."""

    def __init__(self, retry_after_s: int) -> None:
        """`retry_after_s` is what a client is told whose request is not retried any more."""
        self._budget = RetryBudget()
        self._retry_after_s = retry_after_s

    def request(self) -> None:
        """Counts a request that a client has sent."""
        self._budget.request()

    def note(self, replica: Replica, exchange: Exchange, error: UpstreamError) -> None:
        """Ejects the replica, or suspects it until another one has served the request."""
        if isinstance(error, NotTakenError | EngineDeadError):
            replica.health.failed()
        elif not isinstance(error, NotContinuedError):
            replica.health.suspect()
            exchange.failed_attempts.append(
                FailedAttempt(replica, replica.health.answers, exchange.begun)
            )

    def answered(self, replica: Replica, exchange: Exchange) -> None:
        """Blames the suspects for their failures: another replica served this request. One that has
        answered others since is cleared."""
        replica.health.answered()
        for failed in exchange.failed_attempts:
            health = failed.replica.health
            if failed.replica is not replica and health.answers == failed.answers:
                health.failed()

    def count(self, exchange: Exchange) -> None:
        """Counts a failure. Raises ApiError if the request must not be retried. Replicas that died
        count no longer: whether it was the request's doing is decided by `Suspicion`."""
        exchange.failures += 1
        died = sum(failed.replica.health.ejected for failed in exchange.failed_attempts)
        if exchange.failures - died > _MAX_RETRIES or not self._budget.take():
            raise errors.replicas_failed(exchange.served.model.model_id, self._retry_after_s)

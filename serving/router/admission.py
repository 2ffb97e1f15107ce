"""Hands the room of a model's replicas to the requests that wait for it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from serving.admission import Admission, Demand, Refusal, Ticket
from serving.admission.capacity import Replica
from serving.router import errors

R = TypeVar("R", bound=Replica)
B = TypeVar("B")


class Entrance(Generic[R]):
    """Where the requests of one model come in: the clock and the futures around an `Admission`.

    Whoever was let in calls `leave` once, when its answer has ended or has failed.
    """

    def __init__(
        self, model_id: str, admission: Admission[R], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model_id = model_id
        self._admission = admission
        self._clock = clock
        self._waiting: dict[Ticket, tuple[Callable[[Sequence[R]], Any], asyncio.Future[Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at_s = 0.0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(
        self,
        demand: Demand,
        take: Callable[[Sequence[R]], B],
        give_back: Callable[[B], object],
        waits: Callable[[], object] = lambda: None,
    ) -> tuple[Ticket, B]:
        """Waits for room. `take` is called with the replicas that have it, chooses one and books
        it there before it returns; what it returns is passed on. `give_back` undoes that if the
        client leaves in the same instant. `waits` is called if there is no room yet. Raises
        ApiError if the request is not let in.
        """
        outcome = self._admission.offer(demand, self._clock())
        if isinstance(outcome, Refusal):
            raise errors.refused(self._model_id, outcome)
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting[outcome] = take, future
        self._hand_out()
        try:
            if future.done():
                return outcome, future.result()
            waits()
            return outcome, await future
        except asyncio.CancelledError:
            self._abandon(outcome, future, give_back)
            raise

    def leave(self, ticket: Ticket, served: bool) -> None:
        """The request has left its replica, and its booking there has ended. `served`: see
        `Admission.end`.
        """
        self._admission.end(ticket, served, self._clock())
        self.look()

    def look(self) -> None:
        """Room may have been given back."""
        if self._waiting:
            self._hand_out()

    def update(self, replicas: Iterable[R], allotment: float | None = None) -> None:
        """These replicas are up, and that is this router's part of them."""
        self._admission.update(replicas, allotment, self._clock())
        self._hand_out()

    def _abandon(
        self, ticket: Ticket, future: asyncio.Future[B], give_back: Callable[[B], object]
    ) -> None:
        if self._waiting.pop(ticket, None) is not None:
            self._admission.withdraw(ticket)
            self._hand_out()
        elif not future.cancelled() and future.exception() is None:
            give_back(future.result())
            self.leave(ticket, served=False)

    def _hand_out(self) -> None:
        """Gives out all the room there is, and tells those who have waited in vain."""
        now_s = self._clock()
        for ticket, refusal in self._admission.dismissed(now_s):
            _, future = self._waiting.pop(ticket)
            if not future.done():
                future.set_exception(errors.refused(self._model_id, refusal))
        while (handed := self._admission.next(now_s)) is not None:
            ticket, replicas = handed
            take, future = self._waiting.pop(ticket)
            if future.done():  # Its client left, and its task has yet to hear of it.
                self._admission.end(ticket, False, now_s)
                continue
            try:
                future.set_result(take(replicas))
            except Exception as error:
                self._admission.end(ticket, False, now_s)
                future.set_exception(error)
        self._set_timer(now_s)

    def _set_timer(self, now_s: float) -> None:
        """Wakes up when the next has waited in vain, or before."""
        expiry_s = self._admission.next_expiry_s()
        if expiry_s is None or (self._timer is not None and self._wakes_at_s <= expiry_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at_s = expiry_s
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.001, expiry_s - now_s), self._wake_up)

    def _wake_up(self) -> None:
        # A little early, maybe: the loop's clock is coarse. Then there is another time.
        self._timer = None
        self._hand_out()

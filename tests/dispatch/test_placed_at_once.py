"""A request that finds the queue empty is placed as if it had been in the queue."""

import math
import random
from collections.abc import Iterator

import pytest

from serving.dispatch import Dispatcher, Limits, Outcome, Rejection, Request, Reservation, State
from serving.placement import Capacity, LeastCost, Prefix, Rates, Work

CAPACITY = Capacity(kv_cache_tokens=20_000, max_num_seqs=6)
STEPS = 1500


class Run:
    """Random requests of two tenants, with priorities, time-outs, shared prompts, background work
    and adapters, by a seed."""

    def __init__(self, seed: int, replicas: int) -> None:
        self._rng = random.Random(seed)
        self._now_s = 1.0
        self._running: list[Reservation] = []
        self._waiting: dict[Reservation, int] = {}
        self._dispatcher = Dispatcher(
            LeastCost(),
            CAPACITY,
            Limits(max_waiting=20, max_wait_s=5, startup_s=60),
            now_s=0,
            first_rates=lambda: Rates(5000),
            waits_for_choice=True,
            max_loras=1,
        )
        self._dispatcher.update({f"replica-{at}": CAPACITY for at in range(replicas)}, 0.0)

    def events(self) -> Iterator[tuple[object, ...]]:
        """Yields what became of each request, in order."""
        for number in range(STEPS):
            self._now_s += self._rng.expovariate(20)
            if self._rng.random() < 0.5:
                yield from self._submit(number)
            else:
                self._end_one()
            if self._rng.random() < 0.3:
                continue
            for reservation in self._dispatcher.poll(self._now_s):
                submitted = self._waiting.pop(reservation)
                if reservation.state is State.PLACED:
                    self._running.append(reservation)
                    yield submitted, number, reservation.replica_id, reservation.cached_tokens
                else:
                    yield submitted, number, reservation.rejection
            yield number, self._dispatcher.next_due_s() == math.inf, self._dispatcher.waiting

    def _submit(self, number: int) -> Iterator[tuple[object, ...]]:
        rng = self._rng
        text, tokens = rng.randrange(40), rng.randrange(100, 4000)
        work = Work(
            Prefix([text, 100 + number], [64, tokens], tokens),
            tokens,
            rng.randrange(50, 400),
            adapter=rng.choice(("", "", "", "one", "two", "three")),
            background=rng.random() < 0.1,
        )
        request = Request(
            work,
            priority=rng.choice((3, 5, 5, 5)),
            timeout_s=rng.choice((None, None, 8.0)),
            tenant=rng.choice(("", "a", "b")),
        )
        reservation = self._dispatcher.submit(request, self._now_s)
        if isinstance(reservation, Rejection):
            yield number, reservation
        else:
            self._waiting[reservation] = number

    def _end_one(self) -> None:
        if self._waiting and self._rng.random() < 0.2:
            left = self._rng.choice(list(self._waiting))
            if left.state is State.WAITING:
                del self._waiting[left]
                self._dispatcher.withdraw(left, self._now_s)
        elif self._running:
            ended = self._running.pop(self._rng.randrange(len(self._running)))
            self._dispatcher.release(ended, Outcome.SERVED, self._now_s, self._rng.randrange(400))


@pytest.mark.parametrize("replicas", [1, 3, 12])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_placed_as_from_the_queue(
    seed: int, replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = list(Run(seed, replicas).events())
    monkeypatch.setattr(Dispatcher, "_place_at_once", lambda self, reservation, now_s: False)
    assert at_once == list(Run(seed, replicas).events())

"""A dispatcher with replicas, and a clock set by hand."""

from collections.abc import Callable, Sequence

from serving.dispatch import Dispatcher, Limits, Outcome, Rejection, Request, Reservation, State
from serving.dispatch.messages import Message, Placed, Released
from serving.placement import Capacity, Prefix, Rates, ReplicaLoad, Work

CAPACITY = Capacity(kv_cache_tokens=1000, max_num_seqs=10)
STARTUP_S = 60

Choice = Callable[[list[str], float], str]
"""Returns the one of these replicas that a request prefers at this time."""


def work(kv_tokens: int, session: str | None = None, adapter: str = "") -> Work:
    return Work(Prefix([], [], kv_tokens), kv_tokens, 0, session, adapter=adapter)


class Chosen:
    """A placement policy whose choices the test makes; by default the first replica whose batch is
    not full."""

    def __init__(self) -> None:
        self.choices: dict[str | None, Choice] = {}
        self.seen: list[list[str]] = []

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        ids = [load.replica_id for load in loads]
        self.seen.append(ids)
        if work.session in self.choices:
            return ids.index(self.choices[work.session](ids, now_s))
        free = (i for i, load in enumerate(loads) if load.requests < load.capacity.max_num_seqs)
        return next(free, 0)


class Setting:
    def __init__(
        self,
        replicas: int = 1,
        *,
        max_waiting: int = 100,
        max_wait_s: float = 30,
        waits_for_choice: bool = False,
        service_s: float = 1e-9,
        background_scales: bool = False,
        max_loras: int = 0,
    ) -> None:
        """`service_s` is a replica's prefill time for a request of 100 tokens."""
        self.now_s = 0.0
        self.policy = Chosen()
        self.dispatcher = Dispatcher(
            self.policy,
            CAPACITY,
            Limits(max_waiting, max_wait_s, STARTUP_S),
            now_s=0,
            first_rates=lambda: Rates(100 / service_s, overhead_ms=1e-9),
            waits_for_choice=waits_for_choice,
            background_scales=background_scales,
            max_loras=max_loras,
        )
        self.ids = [f"replica-{i}" for i in range(replicas)]
        self.update(self.ids)
        self.expired: list[Reservation] = []
        """Requests rejected after waiting, at the last `place`."""

    def update(self, replica_ids: Sequence[str], ejected: Sequence[str] = ()) -> None:
        self.dispatcher.update(dict.fromkeys(replica_ids, CAPACITY), self.now_s, ejected)

    def load(self, replica: int = 0) -> ReplicaLoad:
        return self.dispatcher.fleet.loads[self.ids[replica]]

    def book(self, replica: int, kv_tokens: int) -> None:
        """Books a request of another router."""
        placed: list[Message] = [Placed(replica, self.ids[replica], [], [], None, kv_tokens, 0, 0)]
        self.dispatcher.sync.receive("other", placed, self.now_s)

    def unbook(self, replica: int) -> None:
        """Ends the request of the other router."""
        self.dispatcher.sync.receive("other", [Released(replica)], self.now_s)

    def submit(
        self,
        kv_tokens: int = 100,
        *,
        choice: Choice | None = None,
        adapter: str = "",
        **request: object,
    ) -> Reservation | Rejection:
        session = None
        if choice is not None:
            session = f"session {len(self.policy.choices)}"
            self.policy.choices[session] = choice
        asked = Request(work(kv_tokens, session, adapter), **request)  # type: ignore[arg-type]
        return self.dispatcher.submit(asked, self.now_s)

    def offer(self, kv_tokens: int = 100, **request: object) -> Reservation:
        outcome = self.submit(kv_tokens, **request)  # type: ignore[arg-type]
        assert isinstance(outcome, Reservation), outcome
        return outcome

    def rejected(self, kv_tokens: int = 100, **request: object) -> Rejection:
        outcome = self.submit(kv_tokens, **request)  # type: ignore[arg-type]
        assert isinstance(outcome, Rejection), outcome
        return outcome

    def place(self) -> list[Reservation]:
        """Returns the requests placed since the last call; rejected ones are in `expired`."""
        changed = self.dispatcher.poll(self.now_s)
        self.expired = [one for one in changed if one.state is State.REJECTED]
        return [one for one in changed if one.state is State.PLACED]

    def end(self, reservation: Reservation) -> list[Reservation]:
        self.dispatcher.release(reservation, Outcome.SERVED, self.now_s)
        return self.place()

    def fill(self, requests: int = 10) -> list[Reservation]:
        running = [self.offer() for _ in range(requests)]
        assert self.place() == running
        return running


def held_for_a_large_one(max_wait_s: float = 10_000) -> tuple[Setting, Reservation]:
    """Returns a replica that has been emptied in part for a large request, and that request."""
    setting = Setting(max_wait_s=max_wait_s)
    running = setting.fill()
    large = setting.offer(900)
    for _ in range(8):
        churn(setting, running)
    return setting, large


def churn(setting: Setting, running: list[Reservation]) -> list[Reservation]:
    """Ends the longest running request, and submits a small one."""
    setting.offer(100)
    placed = setting.end(running.pop(0))
    running += placed
    return placed

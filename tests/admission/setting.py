"""An admission whose replicas are booked by hand."""

from dataclasses import dataclass, field

from serving.admission import Admission, Capacity, Demand, Refusal, Ticket
from tests.admission.fleet import Load

CAPACITY = Capacity(kv_cache_tokens=1000, max_num_seqs=10)
STARTUP_S = 60


@dataclass(eq=False)
class Replica:
    capacity: Capacity = CAPACITY
    load: Load = field(default_factory=Load)


class Setting:
    """An admission with replicas, whose room is booked by hand."""

    def __init__(self, replicas: int = 1, *, max_waiting: int = 100, max_wait_s: float = 30):
        self.now_s = 0.0
        self.admission: Admission[Replica] = Admission(
            CAPACITY, max_waiting=max_waiting, max_wait_s=max_wait_s, startup_s=STARTUP_S, now_s=0
        )
        self.replicas = [Replica() for _ in range(replicas)]
        self.admission.update(self.replicas, None, 0)
        self.where: dict[Ticket, Replica] = {}

    def offer(self, kv_tokens: int = 100, **demand: object) -> Ticket:
        outcome = self.admission.offer(Demand(kv_tokens, **demand), self.now_s)  # type: ignore[arg-type]
        assert isinstance(outcome, Ticket), outcome
        return outcome

    def refused(self, kv_tokens: int = 100, **demand: object) -> Refusal:
        outcome = self.admission.offer(Demand(kv_tokens, **demand), self.now_s)  # type: ignore[arg-type]
        assert isinstance(outcome, Refusal), outcome
        return outcome

    def place(self) -> list[Ticket]:
        """Hands out all the room there is; of those that fit, the first replica is taken."""
        placed = []
        while (handed := self.admission.next(self.now_s)) is not None:
            ticket, fitting = handed
            self.where[ticket] = fitting[0]
            fitting[0].load.requests += 1
            fitting[0].load.kv_tokens += ticket.demand.kv_tokens
            placed.append(ticket)
        return placed

    def end(self, ticket: Ticket) -> list[Ticket]:
        replica = self.where.pop(ticket)
        replica.load.requests -= 1
        replica.load.kv_tokens -= ticket.demand.kv_tokens
        self.admission.end(ticket, True, self.now_s)
        return self.place()

    def fill(self, tickets: int = 10, kv_tokens: int = 100) -> list[Ticket]:
        return [
            ticket for _ in range(tickets) for ticket in [self.offer(kv_tokens)] if self.place()
        ]

    def dismissed(self) -> list[tuple[Ticket, Refusal]]:
        return list(self.admission.dismissed(self.now_s))


def churn(setting: Setting, running: list[Ticket]) -> list[Ticket]:
    """The one that runs longest ends, and a small one comes."""
    setting.offer(100)
    placed = setting.end(running.pop(0))
    running += placed
    return placed

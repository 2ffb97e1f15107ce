"""The replicas of a run: which are up when, and how much runs on each."""

from collections.abc import Sequence

from serving.simulator.engine import Engine, EngineSpec


class Replica:
    """`asked_s` is when it was decided that it shall be; it takes requests from `up_s` until it
    drains, and is gone at `gone_s`. None: not yet.
    """

    __slots__ = ("asked_s", "draining", "engine", "gone_s", "number", "replica_id", "up_s", "users")

    def __init__(self, number: int, spec: EngineSpec, asked_s: float) -> None:
        self.number = number
        self.replica_id = f"replica-{number}"
        self.engine = Engine(spec)
        self.asked_s = asked_s
        self.up_s: float | None = None
        self.gone_s: float | None = None
        self.draining = False
        self.users = 0
        """Requests on it."""


class Replicas:
    """All that ever were are in `all`, by number."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self.all: list[Replica] = []
        self.by_id: dict[str, Replica] = {}
        self.up: list[Replica] = []
        """In the order in which they came up."""
        self.starting: list[Replica] = []
        self.draining = 0
        self._users = 0
        self._squares = 0
        """Of the numbers of requests on each that is up, as is the sum above."""

    def ask(self, now_s: float) -> Replica:
        """A new one, which starts."""
        replica = Replica(len(self.all), self._spec, now_s)
        self.all.append(replica)
        self.by_id[replica.replica_id] = replica
        self.starting.append(replica)
        return replica

    def come_up(self, replica: Replica, now_s: float) -> None:
        self.starting.remove(replica)
        replica.up_s = now_s
        self.up.append(replica)

    def cancel(self, replica: Replica, now_s: float) -> None:
        """It starts no more."""
        self.starting.remove(replica)
        replica.gone_s = now_s

    def drain(self, replica: Replica, now_s: float) -> None:
        """It takes no more requests, and goes with the end of its last."""
        self.up.remove(replica)
        self._users -= replica.users
        self._squares -= replica.users**2
        replica.draining = True
        self.draining += 1
        self._let_go(replica, now_s)

    def add_user(self, replica: Replica) -> None:
        self._users += 1
        self._squares += 2 * replica.users + 1
        replica.users += 1

    def remove_user(self, replica: Replica, now_s: float) -> None:
        replica.users -= 1
        if replica.draining:
            self._let_go(replica, now_s)
        else:
            self._users -= 1
            self._squares -= 2 * replica.users + 1

    def spread(self) -> float:
        """The coefficient of variation of the requests on those that are up; 0 of none."""
        if not self._users:
            return 0.0
        mean = self._users / len(self.up)
        return float(max(self._squares / len(self.up) - mean * mean, 0.0) ** 0.5 / mean)

    def _let_go(self, replica: Replica, now_s: float) -> None:
        if replica.users == 0:
            self.draining -= 1
            replica.gone_s = now_s


def replica_hours(replicas: Sequence[Replica], end_s: float) -> float:
    """From when each was asked for until it was gone, or the end of the run."""
    seconds = sum((end_s if r.gone_s is None else r.gone_s) - r.asked_s for r in replicas)
    return seconds / 3600

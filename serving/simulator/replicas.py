"""The replicas of a run: when each is up, and how much runs on it."""

from collections.abc import Sequence

from serving.simulator.engine import Engine, EngineSpec


class Replica:
    """A replica. It was requested at `asked_s`, takes requests from `up_s` until it drains, and
    ended at `gone_s`; a time that has not come is None."""

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
        """Number of requests on it."""


class Replicas:
    """The replicas of a run. `all` has every one that ever was, by number."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self.all: list[Replica] = []
        self.by_id: dict[str, Replica] = {}
        self.up: list[Replica] = []
        """The replicas that are up, in the order in which they came up."""
        self.starting: list[Replica] = []
        self.draining = 0

    def ask(self, now_s: float) -> Replica:
        """Adds a replica that starts."""
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
        """Removes a replica that starts."""
        self.starting.remove(replica)
        replica.gone_s = now_s

    def drain(self, replica: Replica, now_s: float) -> None:
        """Drains a replica: it takes no more requests, and ends with its last."""
        self.up.remove(replica)
        replica.draining = True
        self.draining += 1
        self._let_go(replica, now_s)

    def remove_user(self, replica: Replica, now_s: float) -> None:
        replica.users -= 1
        if replica.draining:
            self._let_go(replica, now_s)

    def _let_go(self, replica: Replica, now_s: float) -> None:
        if replica.users == 0:
            self.draining -= 1
            replica.gone_s = now_s


def replica_hours(replicas: Sequence[Replica], end_s: float) -> float:
    """Sum of the replicas' times, each from its request until its end or the end of the run."""
    seconds = sum((end_s if r.gone_s is None else r.gone_s) - r.asked_s for r in replicas)
    return seconds / 3600

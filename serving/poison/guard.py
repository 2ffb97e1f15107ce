"""Keeps a request that ends engines from ending one after the other."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from serving.poison.memory import Guilty, Memory
from serving.poison.messages import (
    Cleared,
    Judged,
    Pardoned,
    PoisonMessage,
    Suspected,
    Tried,
    Withdrawn,
)
from serving.poison.reason import OF_THE_MACHINE, Death, Reason
from serving.poison.suspects import Case, Suspects

SETTLE_S = 0.2
"""How long a death is left undecided, until all routers have said which requests they had there."""
_GAP_S = 1.0
"""How long a trial without a byte of the answer holds up the next one: whole answers show nothing
until they end, and nearly all engines die of a request in its first steps."""
_QUARANTINE_S = 30.0
"""The longest time for which a replica takes suspects alone."""
_STALLED_S = 60.0
"""How long the trial of another router's suspect is waited for."""
_KEPT_S = 600.0
"""How long a suspect is kept for which no client waits."""
_TICK_S = 0.05
_HURRY_S = 5.0
"""How long a suspect waits for a replica with nothing to lose if the death is more likely not of
its doing."""
_MOST_REPLICAS = 1000
"""Replicas whose builds are remembered, present and past."""
_MOST = 10_000
"""Guilty requests that are remembered of a model, about 2 MB."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A suspect, and the replica that it is tried on."""

    digest: bytes
    replica_id: str
    began_s: float
    router_id: str | None = None
    """The router whose suspect it is; None: this one."""


class PoisonGuard:
    """The suspects of a model, their trials and the verdicts, as one router knows them.

    When an engine dies, `died` is called for each request that was in its last steps. These are
    tried one after the other, on a replica that takes nothing else meanwhile: one that has just
    started, or one of several that is idle. One that an engine dies with again is guilty, and all
    routers refuse it from then on. If an engine says that a single request was in its last steps,
    or if just one was in those of two engines, that needs no trial. One whose answer had begun is
    only suspected of a death with no request in its prefill.

    `poll` is due after each call and at `next_due_s`. All times are from one monotonic clock.
    """

    def __init__(self, tie: int, keep_s: float, patience_s: float) -> None:
        """`tie` is a random number of this router. A guilty request is remembered for `keep_s`. A
        suspect waits `patience_s` for a replica with nothing to lose, then any will do."""
        self.publish: Callable[[PoisonMessage], object] | None = None
        """Called with each message for the other routers, in order. None: there are none."""
        self.memory = Memory(_MOST)
        self.suspicious: frozenset[int] = frozenset()
        """The shapes of all suspects and guilty requests; any other request is neither."""
        self.deaths: Counter[Reason] = Counter()
        """How many replicas died on requests of this router."""
        self.judged = 0
        """How many requests this router has found guilty."""
        self._keep_s = keep_s
        self._patience_s = patience_s
        self._suspects = Suspects(tie)
        self._trials: dict[bytes, Trial] = {}
        """Those of all routers."""
        self._up: frozenset[str] = frozenset()
        self._builds: dict[str, str] = {}
        """The builds of the replicas that are or were up, the latest last."""
        self._died: set[str] = set()
        self._died_in_prefill: set[str] = set()
        """Replicas that died while a request was in its prefill."""
        self._quarantined: str | None = None
        self._quarantined_s = 0.0

    # A request

    def find(self, digest: bytes, now_s: float) -> Guilty | None:
        """Returns the verdict on a request that is guilty."""
        return self.memory.find(digest, now_s)

    def is_suspect(self, digest: bytes) -> bool:
        return bool(self._suspects.of(digest))

    def died(
        self,
        digest: bytes,
        shape: int,
        death: Death,
        now_s: float,
        begun: bool = False,
        answered: bool = False,
    ) -> None:
        """Records that a request was in the last steps of a replica that died. `begun` is whether
        its answer had begun, `answered` whether its prompt was answered before."""
        if death.replica_id not in self._died:
            self._died.add(death.replica_id)
            self.deaths[death.reason] += 1
        trial = self._trials.pop(digest, None)
        tried = trial is not None and trial.router_id is None
        self._suspects.add(digest, shape, death, now_s, begun=begun, answered=answered, tried=tried)
        if not begun:
            self._died_in_prefill.add(death.replica_id)
        for one in {digest} | self._suspects.add_left(death, now_s):
            self._tell(one)
        self._changed()

    def left(self, digest: bytes, shape: int, replica_id: str, now_s: float) -> None:
        """Records that a request's client left its replica before a byte of the answer."""
        self._suspects.leave(digest, shape, replica_id, now_s)

    def wait(self, digest: bytes, waits: bool, now_s: float) -> None:
        """Records whether a client waits for the answer to a suspect."""
        self._suspects.wait(digest, waits, now_s)
        self._tell(digest)

    def passed(self, digest: bytes) -> None:
        """Records that a suspect was tried and that its engine lives."""
        self._clear(digest)
        self._publish(Cleared(digest))

    def ended(self, digest: bytes) -> None:
        """Records that a trial of this router ended without a result."""
        if self._trials.pop(digest, None) is not None:
            self._tell(digest)

    # Decisions

    @property
    def trials(self) -> int:
        """The number of this router's trials that are running."""
        return sum(trial.router_id is None for trial in self._trials.values())

    def next_due_s(self, now_s: float) -> float | None:
        """The time at which `poll` may have its next result; None: not without further calls."""
        return now_s + _TICK_S if self._suspects.own or self._is_needed() else None

    def poll(self, now_s: float, loads: Mapping[str, int]) -> Trial | None:
        """Decides the deaths of which all is known. Returns a suspect of this router whose turn it
        is, and the replica to try it on. `loads` are the requests on each healthy replica, the
        quarantined one included."""
        self._decide(now_s)
        self._expire(now_s)
        trial = self._next(now_s, loads)
        if trial is not None:
            self._begin(trial)
            self._publish(Tried(trial.digest, trial.replica_id))
        return trial

    def quarantined(self, now_s: float) -> str | None:
        """Returns the replica that takes no other requests, as suspects are tried on it."""
        if self._is_needed() and now_s - self._quarantined_s < _QUARANTINE_S:
            return self._quarantined
        return None

    def _decide(self, now_s: float) -> None:
        due = [
            case.told
            for case in self._suspects.own.values()
            if not case.decided and now_s - case.since_s >= SETTLE_S
        ]
        for told in list(due):
            if told.begun and told.replica_ids[-1] in self._died_in_prefill:
                self._withdraw(told.digest)
                due.remove(told)
        guilty = {self._suspects.guilty_of(told.replica_ids[-1]) for told in due}
        for told in due:
            self._suspects.own[told.digest].decided = True
            if told.digest in guilty:
                self._judge(told, now_s)

    def _judge(self, told: Suspected, now_s: float) -> None:
        self.judged += 1
        build = self._builds.get(told.replica_ids[-1], "")
        guilty = Guilty(told.digest, told.shape, told.reason, build, now_s, now_s + self._keep_s)
        self.memory.add(guilty)
        self._clear(told.digest)
        self._publish(_judged(guilty, now_s))

    def _withdraw(self, digest: bytes) -> None:
        del self._suspects.own[digest]
        self._publish(Withdrawn(digest))
        self._changed()

    def _expire(self, now_s: float) -> None:
        for digest, case in list(self._suspects.own.items()):
            if not case.told.waits and now_s - case.since_s > _KEPT_S:
                self._withdraw(digest)

    def _next(self, now_s: float, loads: Mapping[str, int]) -> Trial | None:
        """Returns the next trial if it is one of this router. All routers come to the same next
        suspect."""
        running = self._trials.values()
        if any(now_s - one.began_s < _GAP_S or self._is_alone(one.digest) for one in running):
            return None
        waiting = {digest for digest, case in self._suspects.items() if case.told.waits}
        for digest in sorted(waiting - self._trials.keys(), key=lambda one: self._order(one)):
            cases = [case for case in self._suspects.of(digest) if case.told.waits]
            case = min(cases, key=lambda one: one.told.tie)
            is_own = case is self._suspects.own.get(digest)
            settled = case.decided if is_own else now_s - case.since_s >= SETTLE_S
            stalled = not is_own and now_s - case.since_s > _STALLED_S
            replica_id = self._replica_for(case, now_s, loads)
            if stalled or replica_id is None:
                continue
            if not settled or not is_own or (running and self._is_alone(digest)):
                return None
            return Trial(digest, replica_id, now_s)
        return None

    def _order(self, digest: bytes) -> tuple[bool, bytes]:
        return not self._is_alone(digest), digest

    def _is_alone(self, digest: bytes) -> bool:
        """Whether no other may be tried at the same time: two deaths had it and another suspect in
        common."""
        return self._suspects.deaths(digest) > 1

    def _replica_for(self, case: Case, now_s: float, loads: Mapping[str, int]) -> str | None:
        """Returns the replica to try a suspect on: one at a time, and one with nothing to lose, if
        one comes in time. The last one that is up has the service to lose."""
        for trial in self._trials.values():
            if trial.replica_id in loads:
                return trial.replica_id
        if self._quarantined in loads:
            return self._quarantined
        least = min(loads, key=loads.__getitem__, default=None)
        hurries = case.told.reason in OF_THE_MACHINE and not self._is_alone(case.told.digest)
        if least is None or (loads[least] == 0 and (len(loads) > 1 or hurries)):
            return least
        patience_s = min(_HURRY_S, self._patience_s) if hurries else self._patience_s
        return least if now_s - case.since_s > patience_s else None

    def _begin(self, trial: Trial) -> None:
        self._trials[trial.digest] = trial
        if trial.replica_id != self._quarantined:
            self._quarantined, self._quarantined_s = trial.replica_id, trial.began_s

    def _is_needed(self) -> bool:
        """Whether a suspect waits to be tried, or is being tried."""
        return bool(self._trials) or any(case.told.waits for _, case in self._suspects.items())

    # Replicas and operators

    def update(self, builds: Mapping[str, str], now_s: float) -> None:
        """Sets the replicas that are up, and the build of each. One that appears while there are
        suspects is quarantined."""
        new = [one for one in builds if one not in self._up]
        self._up = frozenset(builds)
        self._builds = {**self._builds, **builds}
        for one in list(self._builds)[:-_MOST_REPLICAS]:
            del self._builds[one]
            self._died.discard(one)
            self._died_in_prefill.discard(one)
        self._suspects.forget_left(now_s)
        self.memory.prune(set(builds.values()), now_s)
        self._changed()
        if self._quarantined not in builds:
            self._quarantined = None
        if new and self._quarantined is None and self._is_needed():
            self._quarantined, self._quarantined_s = new[0], now_s

    def pardon(self, digest: bytes | None) -> int:
        """Forgets a guilty request at all routers, or with None all of them. Returns how many this
        one knew."""
        count = self.memory.forget(digest)
        self._publish(Pardoned(digest))
        self._changed()
        return count

    # Other routers

    def snapshot(self, now_s: float) -> Iterator[PoisonMessage]:
        """Yields the messages that a router needs first."""
        for guilty in self.memory:
            yield _judged(guilty, now_s)
        for case in self._suspects.own.values():
            yield case.told
        for trial in self._trials.values():
            if trial.router_id is None:
                yield Tried(trial.digest, trial.replica_id)

    def receive(self, router_id: str, message: PoisonMessage, now_s: float) -> None:
        """Applies what another router published, in its order."""
        cases = self._suspects.others.setdefault(router_id, {})
        if not isinstance(message, Pardoned):
            trial = self._trials.get(message.digest)
            if trial is not None and trial.router_id == router_id:
                del self._trials[message.digest]
        match message:
            case Suspected():
                self._hear(cases, message, now_s)
            case Tried():
                self._begin(Trial(message.digest, message.replica_id, now_s, router_id))
            case Cleared():
                self._clear(message.digest)
            case Withdrawn():
                cases.pop(message.digest, None)
            case Judged():
                since_s, expires_s = now_s - message.age_s, now_s + message.expires_in_s
                digest, shape = message.digest, message.shape
                self.memory.add(
                    Guilty(digest, shape, message.reason, message.build, since_s, expires_s)
                )
                self._clear(digest)
            case Pardoned():
                self.memory.forget(message.digest)
        self._changed()

    def forget(self, router_id: str) -> None:
        """Forgets the suspects of a router that is gone."""
        self._suspects.others.pop(router_id, None)
        self._trials = {
            digest: trial for digest, trial in self._trials.items() if trial.router_id != router_id
        }
        self._changed()

    def _hear(self, cases: dict[bytes, Case], told: Suspected, now_s: float) -> None:
        if self.memory.find(told.digest, now_s) is not None:
            return
        known = cases.get(told.digest)
        is_new = known is None or known.told.replica_ids != told.replica_ids
        cases[told.digest] = Case(told, now_s if known is None or is_new else known.since_s)
        if is_new:
            replica_id = told.replica_ids[-1]
            if not told.begun:
                self._died_in_prefill.add(replica_id)
            death = Death(replica_id, told.reason, told.of)
            for one in self._suspects.add_left(death, now_s):
                self._tell(one)

    # Within

    def _clear(self, digest: bytes) -> None:
        self._suspects.clear(digest)
        self._trials.pop(digest, None)
        self._changed()

    def _changed(self) -> None:
        shapes = [guilty.shape for guilty in self.memory]
        shapes += [case.told.shape for _, case in self._suspects.items()]
        self.suspicious = frozenset(shapes)

    def _tell(self, digest: bytes) -> None:
        if (case := self._suspects.own.get(digest)) is None:
            return
        self._publish(case.told)
        trial = self._trials.get(digest)
        if trial is not None and trial.router_id is None:
            self._publish(Tried(digest, trial.replica_id))

    def _publish(self, message: PoisonMessage) -> None:
        if self.publish is not None:
            self.publish(message)


def _judged(guilty: Guilty, now_s: float) -> Judged:
    return Judged(
        guilty.digest,
        guilty.shape,
        guilty.reason,
        guilty.build,
        now_s - guilty.since_s,
        guilty.expires_s - now_s,
    )

"""Routers and engines in simulated time, and requests of which some end their engine."""

import random
from dataclasses import dataclass, field

from serving.poison import Death, PoisonGuard, PoisonMessage, Reason

STEP_S = 0.05
RESTART_S = 3.0
DELAY_S = 0.05
"""How long a message between routers takes."""


@dataclass(eq=False)
class Sent:
    """A request of a client, on its way to an answer."""

    digest: bytes
    router: int
    prefill_s: float
    reason: Reason | None = None
    """How it ends its engine in its prefill; None: it does not."""
    replica_id: str | None = None
    placed_s: float = 0.0
    begun: bool = False
    tried: bool = False
    outcome: str = ""
    """Either `answered` or `refused`."""


@dataclass(eq=False)
class Engine:
    replica_id: str
    requests: list[Sent] = field(default_factory=list)


class Router:
    def __init__(self, number: int, patience_s: float) -> None:
        self.guard = PoisonGuard(number, keep_s=3600, patience_s=patience_s)
        self.name = f"router-{number}"
        self.waiting: list[Sent] = []
        self.suspects: list[Sent] = []


class Fleet:
    """Two kinds of engines are told apart by a death's reason: one whose process is gone says
    nothing of its requests."""

    def __init__(self, engines: int, routers: int, seed: int, patience_s: float = 30.0) -> None:
        self.now_s = 0.0
        self.random = random.Random(seed)
        self.routers = [Router(number, patience_s) for number in range(routers)]
        self.engines: dict[str, Engine] = {}
        self.deaths: list[list[Sent]] = []
        """The requests in the last steps of each engine that died."""
        self.requests: list[Sent] = []
        self._starting: list[float] = []
        self._numbers = iter(range(10_000))
        self._mail: list[tuple[float, int, int, PoisonMessage]] = []
        for number, router in enumerate(self.routers):
            router.guard.publish = lambda message, sender=number: self._post(sender, message)
        for _ in range(engines):
            self._start()

    def send(
        self, digest: bytes, router: int, prefill_s: float = 0.1, reason: Reason | None = None
    ) -> Sent:
        sent = Sent(digest, router, prefill_s, reason)
        self.requests.append(sent)
        self._arrive(sent)
        return sent

    def run(self, until_s: float) -> None:
        """Runs until all requests have ended, or that time."""
        while self.now_s < until_s and not all(one.outcome for one in self.requests):
            self.step()

    def step(self) -> None:
        self.now_s += STEP_S
        for at_s in [one for one in self._starting if one <= self.now_s]:
            self._starting.remove(at_s)
            self._start()
        self._deliver()
        for engine in list(self.engines.values()):
            self._run(engine)
        for router in self.routers:
            self._poll(router)

    def kill(self, replica_id: str, reason: Reason) -> None:
        engine = self.engines.pop(replica_id)
        self._starting.append(self.now_s + RESTART_S)
        fresh = [one for one in engine.requests if not one.begun]
        self.deaths.append(fresh)
        self._update()
        for sent in engine.requests:
            guard = self.routers[sent.router].guard
            sent.replica_id, sent.tried = None, False
            if sent.begun:
                self._arrive(sent)
                continue
            of = None if reason == "unreachable" else len(fresh)
            death = Death(replica_id, reason, of)
            guard.died(sent.digest, _shape(sent.digest), death, self.now_s)
            self._suspect(sent)

    def _post(self, sender: int, message: PoisonMessage) -> None:
        for number in range(len(self.routers)):
            if number != sender:
                self._mail.append((self.now_s + DELAY_S, sender, number, message))

    def _deliver(self) -> None:
        due = [one for one in self._mail if one[0] <= self.now_s]
        self._mail = [one for one in self._mail if one[0] > self.now_s]
        for _, sender, number, message in due:
            router = self.routers[number]
            router.guard.receive(self.routers[sender].name, message, self.now_s)

    def _start(self) -> None:
        replica_id = f"replica-{next(self._numbers)}"
        self.engines[replica_id] = Engine(replica_id)
        self._update()

    def _update(self) -> None:
        for router in self.routers:
            router.guard.update(dict.fromkeys(self.engines, "build"), self.now_s)

    def _arrive(self, sent: Sent) -> None:
        guard = self.routers[sent.router].guard
        if _shape(sent.digest) in guard.suspicious:
            if guard.find(sent.digest, self.now_s) is not None:
                sent.outcome = "refused"
                return
            if guard.is_suspect(sent.digest):
                self._suspect(sent)
                return
        self.routers[sent.router].waiting.append(sent)

    def _suspect(self, sent: Sent) -> None:
        router = self.routers[sent.router]
        router.suspects.append(sent)
        router.guard.wait(sent.digest, True, self.now_s)

    def _poll(self, router: Router) -> None:
        guard = router.guard
        loads = {one: len(engine.requests) for one, engine in self.engines.items()}
        trial = guard.poll(self.now_s, loads)
        if trial is not None:
            sent = next(one for one in router.suspects if one.digest == trial.digest)
            router.suspects.remove(sent)
            still = any(one.digest == trial.digest for one in router.suspects)
            guard.wait(trial.digest, still, self.now_s)
            sent.tried = True
            self._place(sent, self.engines[trial.replica_id])
        for sent in list(router.suspects):
            if guard.find(sent.digest, self.now_s) is not None:
                router.suspects.remove(sent)
                sent.outcome = "refused"
            elif not guard.is_suspect(sent.digest):
                router.suspects.remove(sent)
                self._arrive(sent)
        away = guard.quarantined(self.now_s)
        free = [engine for one, engine in self.engines.items() if one != away]
        while router.waiting and free:
            self._place(router.waiting.pop(0), self.random.choice(free))

    def _place(self, sent: Sent, engine: Engine) -> None:
        sent.replica_id, sent.placed_s = engine.replica_id, self.now_s
        engine.requests.append(sent)

    def _run(self, engine: Engine) -> None:
        for sent in list(engine.requests):
            if self.now_s - sent.placed_s < sent.prefill_s:
                continue
            if sent.reason is not None:
                self.kill(engine.replica_id, sent.reason)
                return
            if not sent.begun:
                sent.begun = True
                if sent.tried:
                    self.routers[sent.router].guard.passed(sent.digest)
                    sent.tried = False
            elif self.now_s - sent.placed_s > sent.prefill_s + 1.0:
                engine.requests.remove(sent)
                sent.outcome = "answered"


def _shape(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")

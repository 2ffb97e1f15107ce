"""Faults, updates and scaling of a running service while clients stream from it."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import psutil

from tests.faults.deployed import APP, ENGINE, MODEL, MOST_ROUTERS, DeployedApp
from tests.faults.load import Answer, Load, Question
from tests.faults.stand_in_vllm import STEP_S
from tests.faults.two_nodes import NodesApart, TwoNodes
from tests.support.processes import kill as kill_all
from tests.support.waiting import wait_for

_FLOOD = 300
_STREAMS_FOR_ALL_ROUTERS = 150
"""Too many connections for two of the test's routers, and not too many for four engines."""
_SLOW_STEP_S = 1.0
_DRAIN_S = 300
_NOTICE_S = 30
_PROBES = 1
"""The connections of a router to an engine that are no request."""
_REPLICA = f"ray::ServeReplica:{APP}:"


@dataclass
class Scene:
    """A service under load."""

    app: DeployedApp
    load: Load
    failed: set[str] = field(default_factory=set)
    """Replicas that failed their streams."""
    lost_ports: set[int] = field(default_factory=set)
    """The ports of the clients whose connections a dead router held."""
    struck_s: float = 0.0
    gone_s: float = 0.0
    """The time at which the dead router's process, and the connections that waited at its port, had
    ended."""
    in_flight: list[Answer] = field(default_factory=list)

    def strike(self) -> None:
        """Records the time and the answers in flight."""
        self.in_flight = self.load.in_flight
        self.struck_s = time.monotonic()

    def victim(self) -> str:
        """The replica with the most streams, which the event will fail."""
        replicas = [answer.headers.get("x-replica", "") for answer in self.load.in_flight]
        victim = max(self.app.replicas(), key=replicas.count)
        self.failed.add(victim)
        return victim

    async def left(self, victim: str) -> None:
        """Returns once the streams that this replica had have ended."""
        had = [a for a in self.in_flight if a.headers.get("x-replica") == victim]
        await until(lambda: all(answer.ended_s for answer in had), 120, "its streams end")

    async def answered(self, count: int) -> None:
        """Returns once `count` of the answers that began after the strike have ended."""

        def ended() -> bool:
            return sum(a.began_s > self.struck_s and a.ended_s > 0 for a in self.load.answers) >= (
                count
            )

        await until(ended, 120, f"{count} answers")


async def until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    await asyncio.to_thread(wait_for, condition, timeout_s, what)


Strike = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Event:
    name: str
    happens: Strike
    """Returns once the service has recovered."""
    routers: int = 1
    engines: int = 3
    one_long_in: int = 0
    """One in so many answers takes far longer than Serve's own shutdown timeout, 20 s; 0: none."""
    on_vllm: bool = False
    in_short: bool = False
    floods: bool = False
    """Whether requests may be refused with a 429."""
    scales: bool = False
    """Whether the number of routers follows their load."""


async def nothing(scene: Scene) -> None:
    scene.strike()
    await scene.answered(len(scene.in_flight))


async def kill_engine(scene: Scene) -> None:
    await kill(scene, scene.app.core_process)


async def kill_replica(scene: Scene) -> None:
    await kill(scene, scene.app.replica_process)


async def kill(scene: Scene, process_of: Callable[[str], psutil.Process]) -> None:
    victim = scene.victim()
    process = process_of(victim)
    scene.strike()
    process.kill()
    await asyncio.to_thread(scene.app.wait_for_replicas, 3, victim)


async def kill_router(scene: Scene) -> None:
    await all_know_of_all(scene)
    victim = scene.app.routers()[0]
    victim.suspend()
    scene.lost_ports = {c.raddr.port for c in victim.net_connections("tcp") if c.raddr}
    scene.strike()
    victim.kill()
    await asyncio.to_thread(psutil.wait_procs, [victim], 30)
    scene.gone_s = time.monotonic()
    await until(
        lambda: len(now := scene.app.routers()) == 2 and victim not in now, 60, "two routers"
    )
    await scene.answered(len(scene.in_flight))
    await all_know_of_all(scene)


async def all_know_of_all(scene: Scene) -> None:
    """Returns once each router counts the others' requests too."""
    most = len(scene.load.in_flight) * 0.8
    await until(
        lambda: all(scene.app.requests_in_flight() > most for _ in range(12)),
        30,
        "the routers know of each other's requests",
    )


async def reset_connections(scene: Scene) -> None:
    victim = scene.victim()
    scene.strike()
    await asyncio.to_thread(scene.app.have_fault, victim, resets=6)
    await scene.answered(len(scene.in_flight))


async def answer_slowly(scene: Scene) -> None:
    victim = scene.victim()
    scene.failed.clear()
    scene.strike()
    await asyncio.to_thread(scene.app.have_fault, victim, step_s=_SLOW_STEP_S)
    await scene.answered(2 * len(scene.in_flight))
    await asyncio.to_thread(scene.app.have_fault, victim, step_s=STEP_S)


async def engine_hangs(scene: Scene) -> None:
    victim = scene.victim()
    process = scene.app.core_process(victim)
    scene.strike()
    process.send_signal(signal.SIGSTOP)
    await scene.left(victim)
    await asyncio.to_thread(scene.app.wait_for_replicas, 3, victim)


async def replica_hangs(scene: Scene) -> None:
    victim = scene.victim()
    process = scene.app.replica_process(victim)
    scene.strike()
    process.send_signal(signal.SIGSTOP)
    await scene.left(victim)
    await asyncio.to_thread(scene.app.wait_for_replicas, 3, victim)
    process.kill()  # as Serve does once the time for a graceful shutdown is over


async def scale_down(scene: Scene) -> None:
    scene.strike()
    await asyncio.to_thread(scene.app.deploy, engines=1)
    await asyncio.to_thread(scene.app.wait_for_replicas, 1)
    await gone(scene, _REPLICA + ENGINE, 1)


async def update_engines(scene: Scene) -> None:
    await update(scene, ENGINE)


async def update_router(scene: Scene) -> None:
    await update(scene, "Router")


async def update(scene: Scene, deployment: str) -> None:
    title = _REPLICA + deployment
    old = scene.app.processes(title)
    scene.strike()
    await asyncio.to_thread(scene.app.deploy, engines=3, update=deployment)
    await until(
        lambda: len(now := scene.app.processes(title)) == len(old) and not {*now} & {*old},
        300,
        "all are replaced",
    )
    await asyncio.to_thread(scene.app.wait_until_running)


async def gone(scene: Scene, title: str, count: int) -> None:
    await until(lambda: len(scene.app.processes(title)) == count, 300, f"{count} are left")


async def flood(scene: Scene) -> None:
    questions: Iterable[Question] = [answer.question for answer in scene.load.in_flight]
    short = min(questions, key=lambda question: question.max_tokens)
    scene.strike()
    await asyncio.gather(*(scene.load.ask(short) for _ in range(_FLOOD)))


async def scale_routers(scene: Scene) -> None:
    """Floods one router with streams until there are as many as there may be, each with clients
    of its own, and stops until there is one again."""
    app = scene.app
    flood = Load(app.port, MODEL, scene.load.answers)
    scene.strike()
    asked = [answer.question for answer in scene.in_flight if answer.question.stream]
    further = _STREAMS_FOR_ALL_ROUTERS - len(scene.in_flight)
    flood.start([asked[n % len(asked)] for n in range(further)])
    await until(
        lambda: len(now := app.routers()) == MOST_ROUTERS and all(map(app.connections, now)),
        120,
        f"{MOST_ROUTERS} routers have clients",
    )
    await flood.stop(120)
    await gone(scene, _REPLICA + "Router", 1)


async def kill_head(scene: Scene) -> None:
    """Kills the head, which returns after a while; then a dead replica is replaced as before."""
    app = scene.app
    assert isinstance(app, TwoNodes)
    scene.strike()
    await asyncio.to_thread(app.kill_head)
    await scene.answered(len(scene.in_flight))
    await asyncio.to_thread(app.start_head)
    victim = scene.victim()
    (await asyncio.to_thread(app.core_process, victim)).kill()
    await asyncio.to_thread(app.wait_for_replicas, 3, victim)


async def drain_node(scene: Scene) -> None:
    """Drains a node as when its pod is deleted: another takes its place, and it ends once empty."""
    app = scene.app
    assert isinstance(app, TwoNodes)
    old = {*app.processes(_REPLICA)}
    scene.strike()
    drained = await asyncio.to_thread(app.drain_worker, _DRAIN_S)
    await until(lambda: old.isdisjoint(app.processes(_REPLICA)), _DRAIN_S, "all have moved")
    await asyncio.to_thread(kill_all, [drained, *drained.children(recursive=True)])
    await asyncio.to_thread(app.wait_for_replicas, 3)


async def give_notice(scene: Scene) -> None:
    """Says that the node of the engines with all streams goes, which it then does, while other
    engines run on another node."""
    app = scene.app
    assert isinstance(app, NodesApart)
    going, replicas = app.worker, list(app.replicas())
    scene.failed.update(replicas)
    processes = [app.replica_process(replica) for replica in replicas]
    ports = {int(address.rsplit(":", 1)[1]) for address in app.replicas().values()}
    await asyncio.to_thread(app.start_engines_node)
    await asyncio.to_thread(app.deploy, engines=len(replicas) * 2)
    await asyncio.to_thread(app.wait_for_replicas, len(replicas) * 2)
    before = app.handed_over()
    scene.strike()
    await asyncio.to_thread(app.drain, going, _NOTICE_S)
    noticed_s = time.monotonic()  # once Ray knows it: the command has to start first
    await until(
        lambda: all(connections(one, ports) <= _PROBES for one in processes),
        _NOTICE_S,
        "the node has no stream",
    )
    took_s = time.monotonic() - noticed_s
    print(f"    no stream is left {took_s:.1f} s after the notice", file=sys.stderr)
    await asyncio.sleep(max(0.0, _NOTICE_S - took_s))
    await asyncio.to_thread(kill_all, [going, *going.children(recursive=True)])
    await until(
        lambda: app.handed_over() - before == len(scene.in_flight),
        120,
        "each stream has ended and was handed over once",
    )


def connections(engine: psutil.Process, ports: set[int]) -> int:
    """Returns how many connections of routers an engine has. `ports` are those that engines serve
    on: Ray listens in their processes too."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = engine.net_connections("tcp")
        return sum(
            one.laddr.port in ports and one.status == psutil.CONN_ESTABLISHED for one in found
        )
    return 0


NOTHING = Event("nothing", nothing, on_vllm=True, in_short=True)

EVENTS = [
    Event("kill -9 of an engine", kill_engine, on_vllm=True, in_short=True),
    Event("kill -9 of a replica", kill_replica, on_vllm=True),
    Event("an engine resets connections", reset_connections, in_short=True),
    Event("an engine answers slowly", answer_slowly),
    Event("an engine hangs", engine_hangs, on_vllm=True),
    Event("a replica hangs", replica_hangs),
    Event("a flood past the bound", flood, floods=True, in_short=True),
    Event("kill -9 of a router", kill_router, routers=2, in_short=True),
    Event("update of the router", update_router, one_long_in=10, in_short=True),
    Event("routers scale 1 to 3 to 1", scale_routers, engines=4, floods=True, scales=True),
    Event("update of the engines", update_engines, one_long_in=10, on_vllm=True),
    Event("scale down 3 to 1", scale_down, one_long_in=10, on_vllm=True, in_short=True),
]

ON_TWO_NODES = [
    Event("kill -9 of the head", kill_head),
    Event("a node is drained", drain_node, one_long_in=10),
]

ON_NODES_APART = [Event("30 s notice on a node", give_notice, engines=2, one_long_in=1)]

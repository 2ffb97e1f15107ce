"""What a pod does before it ends, with stand-ins for Ray's processes and head."""

import http.server
import importlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from serving.cli.commands import app
from serving.cli.drain_node import Node, running_replicas
from tests.support.waiting import wait_for

# The package's attribute of that name is the command.
drain_node = importlib.import_module("serving.cli.drain_node")

SLEEP = "import time; time.sleep(600)"
REPLICA = """
import http.server, sys
class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open(sys.argv[1], "rb").read())
http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics).serve_forever()
"""
"""A replica's process, whose metrics are the contents of a file."""
LOAD = """
mistral_serve_queue_length{{model="a"}} {waiting}
mistral_serve_booked_tokens{{model="a",replica="x"}} 0.0
mistral_serve_booked_tokens{{model="a",replica="y"}} {tokens}
"""

ENGINE_LOAD = """
vllm:num_requests_running{{engine="0",model_name="a"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="a"}} 0.0
"""


class Pod:
    """Processes that look like Ray's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def run_raylet(self) -> None:
        raylet = self._folder / "raylet"
        raylet.symlink_to(Path(sys.executable).resolve())
        flags = ["--node_id=aa11", "--gcs-address=10.0.0.1:6379", "--labels={}"]
        self._start(subprocess.Popen([raylet, "-c", SLEEP, *flags]))

    def run_replica(self, deployment: str) -> "subprocess.Popen[bytes]":
        title = f"ray::ServeReplica:mistral:{deployment}"
        return self._start(subprocess.Popen([title, "-c", SLEEP], executable=sys.executable))

    def run_router(self, waiting: float = 0.0, tokens: float = 0.0) -> None:
        self.load(waiting, tokens)
        self._serve("Router", self._folder / "load")

    def load(self, waiting: float, tokens: float) -> None:
        """Sets what the router says of its requests."""
        (self._folder / "load").write_text(LOAD.format(waiting=waiting, tokens=tokens))

    def run_engine(self, running: float) -> None:
        (self._folder / "engine").write_text(ENGINE_LOAD.format(running=running))
        self._serve("Engine-tiny", self._folder / "engine")

    def _serve(self, deployment: str, metrics: Path) -> None:
        command = [f"ray::ServeReplica:mistral:{deployment}", "-c", REPLICA, str(metrics)]
        process = self._start(subprocess.Popen(command, executable=sys.executable))
        wait_for(lambda: psutil.Process(process.pid).net_connections("tcp"), 20, "its port")

    def _start(self, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
        self.processes.append(process)
        while not psutil.Process(process.pid).cmdline():
            time.sleep(0.001)  # it has none for a moment
        return process

    def iter(self) -> list[psutil.Process]:
        return [psutil.Process(p.pid) for p in self.processes if p.poll() is None]


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pod]:
    pod = Pod(tmp_path)
    # The machine may run others' Ray too, which a pod does not.
    monkeypatch.setattr(psutil, "process_iter", pod.iter)
    yield pod
    for process in pod.processes:
        process.kill()
        process.wait()


@dataclass
class Head:
    """Ray's head, which has Serve stop replicas when their node is drained."""

    pod: Pod
    is_away: int = 0
    """Number of requests that it leaves unanswered."""
    serve_waits: bool = False
    """Whether replicas stop at the deadline alone, as no successor comes."""
    stops_replicas: bool = False
    drained: list[tuple[str, str]] = field(default_factory=list)
    draining: list[int] = field(default_factory=list)
    """Number of nodes that drain, from one question to the next."""
    workers: tuple[str, ...] = ("aa11",)
    draining_workers: set[str] = field(default_factory=set)
    dashboard: str = "127.0.0.1:9"

    def client(self, node: Node) -> "Head":
        assert node.gcs_address == "10.0.0.1:6379"
        if self.is_away:
            self.is_away -= 1
            raise RuntimeError("GCS is unavailable")
        return self

    def drain_node(
        self, node_id: str, reason: int, message: str, deadline_ms: int
    ) -> tuple[bool, str]:
        self.drained.append((node_id, message))
        self.draining_workers.add(node_id)
        if self.serve_waits and deadline_ms > time.time() * 1000:
            return True, ""
        self.stops_replicas = True
        return True, ""

    def running_replicas(self, processes: Iterable[psutil.Process]) -> set[str]:
        """Finds those that run; they stop no earlier than somebody has looked."""
        found = running_replicas(processes)
        if self.stops_replicas:
            for process in self.pod.processes[1:]:
                process.terminate()
        return found

    def get_draining_nodes(self, timeout: float) -> dict[str, int]:
        count = self.draining.pop(0) if self.draining else 0
        return dict.fromkeys([*self.draining_workers, *map(str, range(count))], 0)

    def internal_kv_get(self, key: bytes, namespace: bytes, timeout: float) -> bytes:
        assert (key, namespace) == (b"dashboard", b"dashboard")
        return self.dashboard.encode()

    def get_all_node_info(self, timeout: float) -> dict[Any, Any]:
        dead = {_Id("dead"): SimpleNamespace(state=1, is_head_node=False)}
        head = {_Id("head"): SimpleNamespace(state=0, is_head_node=True)}
        alive = {_Id(each): SimpleNamespace(state=0, is_head_node=False) for each in self.workers}
        return dead | head | alive


@dataclass(frozen=True)
class _Id:
    text: str

    def hex(self) -> str:
        return self.text


@pytest.fixture
def head(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> Head:
    head = Head(pod)
    monkeypatch.setattr(drain_node, "gcs_client", head.client)
    monkeypatch.setattr(drain_node, "running_replicas", head.running_replicas)
    monkeypatch.setattr(drain_node, "_POLL_S", 0.01)
    monkeypatch.setattr(drain_node, "_SETTLE_S", 0)
    monkeypatch.setattr(drain_node, "_IDLE_S", 0.1)
    return head


def run(*flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["drain-node", *flags])
    return result.exit_code, result.output


def test_it_ends_when_the_last_replica_has(pod: Pod, head: Head) -> None:
    pod.run_raylet()
    replicas = [pod.run_replica("Router"), pod.run_replica("Engine-tiny")]
    code, log = run("--within-s", "60")
    assert code == 0, log
    assert head.drained == [("aa11", "the pod is being deleted")]
    assert "waiting for mistral:Engine-tiny, mistral:Router" in log
    assert log.endswith("no replicas are left\n")
    assert all(replica.wait(10) is not None for replica in replicas)


def test_a_head_that_is_just_restarting_is_asked_again(pod: Pod, head: Head) -> None:
    pod.run_raylet()
    head.is_away = 3
    code, log = run("--within-s", "60")
    assert code == 0 and "no replicas are left" in log
    assert len(head.drained) == 1


def test_without_a_head_nothing_is_waited_for(
    pod: Pod, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_node, "_TRY_S", 0)
    pod.run_raylet()
    replica = pod.run_replica("Router")
    head.is_away = 10**6
    code, log = run("--within-s", "60")
    assert code == 1 and "head does not answer, or refuses this machine: GCS" in log
    assert "the node is not drained" in log
    assert replica.poll() is None


def test_what_ray_refuses_is_not_waited_for(
    pod: Pod, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "drain_node", lambda *_: (False, "the node is dead"))
    pod.run_raylet()
    pod.run_replica("Router")
    code, log = run("--within-s", "60")
    assert code == 1 and "refuses to drain the node: the node is dead" in log
    assert "the node is not drained" in log


def test_it_does_not_outlast_its_time(
    pod: Pod, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.run_raylet()
    monkeypatch.setattr(head, "drain_node", lambda *_: (True, ""))
    pod.run_replica("Engine-tiny")
    code, log = run("--within-s", "1")
    assert code == 0 and log.endswith("the time is up\n")


@pytest.mark.parametrize(("tokens", "successor_s"), [(0.0, 180), (512.0, 0.3)])
def test_all_workers_that_drain_wait_for_no_successors(
    pod: Pod, head: Head, monkeypatch: pytest.MonkeyPatch, tokens: float, successor_s: float
) -> None:
    monkeypatch.setattr(drain_node, "_SUCCESSOR_S", successor_s)
    pod.run_raylet()
    pod.run_router(tokens=tokens)
    head.serve_waits = True
    head.workers, head.draining_workers = ("aa11", "bb22"), {"bb22"}
    code, log = run("--within-s", "60")
    assert code == 0
    assert "all other workers drain too: the replicas stop without successors" in log
    assert log.endswith("no replicas are left\n")
    assert len(head.drained) == 2


def test_the_only_worker_waits_while_something_is_in_flight(pod: Pod, head: Head) -> None:
    pod.run_raylet()
    pod.run_router(waiting=1.0)
    head.serve_waits = True
    done: list[tuple[int, str]] = []
    drains = threading.Thread(target=lambda: done.append(run("--within-s", "60")))
    drains.start()
    wait_for(lambda: head.drained, 20, "the request to drain")
    for waiting, tokens in ((1.0, 0.0), (0.0, 512.0)):
        pod.load(waiting, tokens)
        drains.join(0.5)
        assert len(head.drained) == 1
    pod.load(0.0, 0.0)
    drains.join(20)
    assert done[0][0] == 0
    assert "nothing is in flight on the only worker" in done[0][1]


@pytest.fixture
def serve(head: Head) -> Iterator[dict[str, list[tuple[str, str]]]]:
    """The node and state of each deployment's replicas, as the head's dashboard has them."""
    replicas: dict[str, list[tuple[str, str]]] = {}

    class Dashboard(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/serve/applications/" else 404)
            self.end_headers()
            deployments = {
                name: {"replicas": [{"node_id": at, "state": state} for at, state in found]}
                for name, found in replicas.items()
            }
            answer = {"applications": {"mistral": {"deployments": deployments}}}
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        head.dashboard = f"127.0.0.1:{server.server_address[1]}"
        yield replicas
        server.shutdown()


@pytest.mark.parametrize(
    ("running", "state", "at", "ends"),
    [
        (0.0, "RUNNING", "bb22", True),
        (1.0, "RUNNING", "bb22", False),
        (0.0, "STARTING", "bb22", False),
        (0.0, "RUNNING", "cc33", False),
    ],
    ids=["idle", "busy", "the other one starts", "the other one drains"],
)
def test_an_idle_engine_ends_where_another_is_up(
    pod: Pod,
    head: Head,
    serve: dict[str, list[tuple[str, str]]],
    running: float,
    state: str,
    at: str,
    ends: bool,
) -> None:
    pod.run_raylet()
    pod.run_engine(running)
    head.serve_waits = True
    head.workers, head.draining_workers = ("aa11", "bb22", "cc33"), {"cc33"}
    serve["Engine-tiny"] = [("aa11", "PENDING_MIGRATION"), (at, state)]
    serve["Engine-other"] = [("cc33", "RUNNING")]
    code, log = run("--within-s", "60" if ends else "1")
    assert code == 0
    assert ("nothing is in flight, and other replicas are up" in log) == ends
    assert log.endswith("no replicas are left\n" if ends else "the time is up\n")


@pytest.mark.parametrize("others", [{"bb22"}, {"bb22", "cc33"}])
def test_with_another_worker_it_waits_for_a_successor(
    pod: Pod, head: Head, others: set[str]
) -> None:
    pod.run_raylet()
    pod.run_router()
    head.serve_waits = True
    head.workers, head.draining_workers = ("aa11", *others), {"cc33"}
    code, log = run("--within-s", "1")
    assert code == 0 and log.endswith("the time is up\n")
    assert len(head.drained) == 1


def test_a_router_that_says_nothing_is_not_idle(pod: Pod, head: Head) -> None:
    pod.run_raylet()
    pod.run_replica("Router")
    head.serve_waits = True
    code, log = run("--within-s", "1")
    assert code == 0 and log.endswith("the time is up\n")


def test_a_head_waits_for_the_nodes_that_drain(pod: Pod, head: Head) -> None:
    pod.run_raylet()
    head.draining = [2, 2, 1, 0]
    code, log = run("--head", "--within-s", "60")
    assert code == 0, log
    assert head.draining == []
    assert log.splitlines() == [f"{count} nodes are draining" for count in (2, 1, 0)]
    assert head.drained == []


def test_a_machine_without_ray_is_one_line(pod: Pod, head: Head) -> None:
    code, log = run("--within-s", "60")
    assert (
        code == 1
        and log == "mistral-serve: no Ray node runs on this machine: there is nothing to drain.\n"
    )

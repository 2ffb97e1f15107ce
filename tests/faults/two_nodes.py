"""A cluster of several nodes on this machine, whose head keeps its state in Redis, as KubeRay sets
it up.

The head runs no replica, and can be killed and started again. The other nodes can be drained.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import psutil

from serving.cli.drain_node import find_node
from tests.faults.deployed import DeployedApp, python_path
from tests.support.ports import free_port
from tests.support.processes import kill
from tests.support.waiting import wait_for

REDIS = shutil.which("redis-server")
_HOST = "127.0.0.1"
_START_TIMEOUT_S = 60
_DRIVER = """
import sys, ray
from ray import serve
from tests.faults.deployed import DeployedApp
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
serve.start(proxy_location="Disabled")
app = DeployedApp("stand-in", int(sys.argv[3]))
app.port = int(sys.argv[2])
app.apart = sys.argv[6] == "True"
app.deploy(int(sys.argv[4]), int(sys.argv[5]))
app.wait_until_running()
"""
_DRAIN = """
import sys
from serving.cli.drain_node import Node, ask_to_drain
sys.exit(not ask_to_drain(Node(*sys.argv[1:3]), int(sys.argv[3])))
"""


class TwoNodes(DeployedApp):
    """The application on both nodes. This process joins neither node, as it would die with it."""

    def __init__(self, max_waiting: int, folder: Path) -> None:
        super().__init__("stand-in", max_waiting)
        self._folder = folder
        self._address = f"{_HOST}:{free_port()}"
        self._head: psutil.Popen | None = None
        self._worker: psutil.Popen | None = None
        assert REDIS is not None
        self._redis_port = free_port()
        options = f"--port {self._redis_port} --bind {_HOST} --save  --appendonly no"
        self._redis = subprocess.Popen(
            [REDIS, *options.split(" ")], cwd=folder, stdout=subprocess.DEVNULL
        )

    def start_head(self) -> None:
        # A head that returns finds an empty disk, and so no trace of having run before.
        (self._folder / "ray_current_cluster").unlink(missing_ok=True)
        port = self._address.split(":")[1]
        self._head = self._start("--head", "--port", port, "--num-cpus", "0", redis=True)

    def start_worker(self, **resources: int) -> None:
        options = ("--num-cpus", "4", "--resources", json.dumps(resources))
        self._worker = self._start("--address", self._address, *options)

    @property
    def worker(self) -> psutil.Popen:
        """The newest worker."""
        assert self._worker is not None
        return self._worker

    def start_workers(self) -> None:
        self.start_worker()

    def kill_head(self) -> None:
        """Kills the head with all its processes."""
        assert self._head is not None
        kill([self._head, *self._head.children(recursive=True)])

    def drain_worker(self, within_s: int) -> psutil.Popen:
        """Starts another worker, drains the old one and returns it, to be killed once empty."""
        drained = self.worker
        self.start_worker()
        self.drain(drained, within_s)
        return drained

    def drain(self, worker: psutil.Popen, within_s: int) -> None:
        """Tells Ray that the worker will be gone within this time."""
        node = find_node(worker.children(recursive=True))
        assert node is not None
        # In a process of its own, as the secret of this process's first Ray stays with it.
        command = [sys.executable, "-c", _DRAIN, *astuple(node), str(within_s)]
        subprocess.run(command, check=True)

    def deploy(
        self, routers: int = 1, engines: int = 3, update: str = "", scales: bool = False
    ) -> None:
        counts = map(str, (self.port, self._max_waiting, routers, engines, self.apart))
        command = [sys.executable, "-c", _DRIVER, self._address, *counts]
        subprocess.run(command, check=True)

    def wait_until_running(self) -> None:
        """Returns at once, as `deploy` has waited."""

    def close(self) -> None:
        kill(psutil.Process().children(recursive=True))

    def _start(self, *options: str, redis: bool = False) -> psutil.Popen:
        environment = dict(os.environ)
        if redis:
            environment["RAY_REDIS_ADDRESS"] = f"{_HOST}:{self._redis_port}"
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--block",
            "--disable-usage-stats",
            *("--node-ip-address", _HOST),
            *("--object-store-memory", str(100 * 1024 * 1024)),
            *options,
        ]
        if redis:
            command += ["--temp-dir", str(self._folder), "--include-dashboard", "false"]
        log = (self._folder / f"start-{'head' if redis else 'worker'}.log").open("a")
        return psutil.Popen(command, env=environment, stdout=log, stderr=log)


class NodesApart(TwoNodes):
    """A node for the router, and nodes for two engines each."""

    apart = True

    def start_workers(self) -> None:
        self.start_worker(router=1)
        # One after the other: of two workers that wait for a head, Ray fails one now and then.
        wait_for(
            lambda: find_node(self.worker.children(recursive=True)), 120, "the router's node is up"
        )
        self.start_engines_node()

    def start_engines_node(self) -> None:
        self.start_worker(engine=2)


@contextlib.contextmanager
def running(max_waiting: int, nodes: type[TwoNodes] = TwoNodes) -> Iterator[TwoNodes]:
    """The nodes and no application yet, of which nothing is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mistral-faults-", dir="/tmp"))
    os.environ |= {
        "PYTHONPATH": python_path(),
        "TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # KubeRay's name for workers
    }
    app = nodes(max_waiting, folder)
    try:
        app.start_head()
        app.start_workers()
        yield app
    finally:
        app.close()
        shutil.rmtree(folder, ignore_errors=True)

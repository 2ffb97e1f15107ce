"""A Ray of its own with the application on it, deployed from a config as KubeRay does it.

Ray is imported late, as it reads its settings then.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from serving.cli.local_ray import local_ray
from tests.faults import stand_in_vllm
from tests.support.ports import free_port
from tests.support.waiting import wait_for

MODEL = "mistral-serve/tiny-mistral-small-3.2"
APP = "mistral"
ENGINE = "Engine-tiny-mistral-small-3-2"
MOST_ROUTERS = 3
_CPUS = 0.01
_START_TIMEOUT_S = 300


def python_path() -> str:
    """The PYTHONPATH with which Ray's workers find this package."""
    return os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))


class DeployedApp:
    """The application on the Ray to which this process is connected."""

    apart = False
    """Whether routers run on nodes with the resource `router`, and engines on those with `engine`,
    one for each unit of it."""

    def __init__(self, engine: str, max_waiting: int, **settings: Any) -> None:
        """`engine` is "stand-in" or "vllm"; `settings` are further ones of the model."""
        self.port = free_port()
        self.real = engine == "vllm"
        self._revisions = {"Router": 0, ENGINE: 0}
        self._max_waiting = max_waiting
        self._settings = settings

    @property
    def core(self) -> str:
        """The beginning of the title of an engine's own process."""
        return "VLLM::EngineCore" if self.real else stand_in_vllm.CORE

    def deploy(
        self, routers: int = 1, engines: int = 3, update: str = "", scales: bool = False
    ) -> None:
        """Applies the config with these numbers of replicas and returns at once. `update` names a
        deployment to change, so that Serve must replace its replicas. With `scales` the number of
        routers is not fixed.
        """
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        from serving.autoscaling import router_options

        if update:
            self._revisions[update] += 1
        fixed = router_options(routers, None)["autoscaling_config"].model_dump()
        counts: dict[str, dict[str, Any]] = {
            "Router": {} if scales else {"autoscaling_config": fixed},
            ENGINE: {"num_replicas": engines},
        }
        if self.apart:
            counts[ENGINE]["placement_group_bundles"] = [{"CPU": _CPUS, "engine": 1}]
        client: Any = _get_global_client()
        client.deploy_apps(
            ServeDeploySchema.model_validate(
                {
                    "proxy_location": "Disabled",
                    "applications": [
                        {
                            "name": APP,
                            "import_path": ("serving" if self.real else "tests.faults")
                            + ".app:build",
                            "route_prefix": None,
                            "args": self._args(),
                            "deployments": [
                                {
                                    "name": name,
                                    "ray_actor_options": self._actor_options(name),
                                    **count,
                                }
                                for name, count in counts.items()
                            ],
                        }
                    ],
                }
            )
        )

    def _args(self) -> dict[str, Any]:
        return {
            "router": {
                "host": "127.0.0.1",
                "port": self.port,
                "cpus": _CPUS,
                "autoscaling": {"min_replicas": 1, "max_replicas": MOST_ROUTERS, "idle_s": 2},
                "startup_s": 30,
                "drain_timeout_s": 240,
                "admission": {"max_waiting": self._max_waiting, "max_wait_s": 60},
            },
            "models": [
                {
                    "model": "tiny-mistral-small-3.2",
                    "host": "127.0.0.1",
                    "cpus": _CPUS,
                    "drain_timeout_s": 240,
                    **self._settings,
                }
            ],
        }

    def _actor_options(self, name: str) -> dict[str, Any]:
        revision = {"REVISION": str(self._revisions[name])}
        if name == ENGINE:
            from serving.catalogue import read

            entry = read("tiny-mistral-small-3.2").entry()
            revision |= {"VLLM_NO_USAGE_STATS": "1", **entry.env}
        options = {"num_cpus": _CPUS, "runtime_env": {"env_vars": revision}}
        return options | ({"resources": {"router": 1}} if self.apart and name != ENGINE else {})

    def wait_until_running(self) -> None:
        from ray import serve

        def running() -> bool:
            status = serve.status().applications[APP]
            if status.status == "DEPLOY_FAILED":
                raise RuntimeError(f"{status.message} {status.deployments}")
            return status.status == "RUNNING"

        wait_for(running, _START_TIMEOUT_S, "the application runs")

    def replicas(self) -> dict[str, str]:
        """The addresses of the engines by replica, as a router knows them; none if it does not
        answer.
        """
        try:
            response = httpx.get(f"http://127.0.0.1:{self.port}/-/status", timeout=5)
            replicas = response.raise_for_status().json()["models"][MODEL]["replicas"]
        except httpx.HTTPError:
            return {}
        return {replica["replica"]: replica["address"] for replica in replicas}

    def requests_in_flight(self) -> int:
        """The number of all clients' requests, as reported by any one of the routers."""
        response = httpx.get(f"http://127.0.0.1:{self.port}/-/status", timeout=60)
        replicas = response.raise_for_status().json()["models"][MODEL]["replicas"]
        return sum(replica["requests_in_flight"] for replica in replicas)

    def handed_over(self) -> int:
        """The number of streams that have ended and were handed over by an engine that drained, as
        reported by any one of the routers."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=60).text
        (number,) = re.findall(r"^mistral_serve_handed_over_streams_total (.*)$", text, re.M)
        return int(float(number))

    def wait_for_replicas(self, count: int, without: str = "") -> None:
        """Returns once a router knows `count` engines and `without` is not among them."""
        wait_for(
            lambda: len(now := self.replicas()) == count and without not in now,
            _START_TIMEOUT_S,
            f"{count} engines",
        )

    def processes(self, title: str) -> list[psutil.Process]:
        """This process's descendants whose title begins with `title`."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith(title):
                    found.append(process)
        return found

    def routers(self) -> list[psutil.Process]:
        return self.processes(f"ray::ServeReplica:{APP}:Router")

    def connections(self, router: psutil.Process) -> int:
        """The number of clients' connections that a router has."""
        try:
            found = router.net_connections("tcp")
        except psutil.NoSuchProcess:
            return 0
        return sum(bool(one.raddr) and one.laddr.port == self.port for one in found)

    def replica_process(self, replica: str) -> psutil.Process:
        """The process that listens on the address of an engine."""
        port = int(self.replicas()[replica].rsplit(":", 1)[1])
        for process in self.processes(f"ray::ServeReplica:{APP}:{ENGINE}"):
            if port in {c.laddr.port for c in process.net_connections("tcp") if not c.raddr}:
                return process
        raise RuntimeError(f"no process listens for {replica}")

    def core_process(self, replica: str) -> psutil.Process:
        """The engine's own process, a child of the replica's."""
        return next(
            child
            for child in self.replica_process(replica).children(recursive=True)
            if " ".join(child.cmdline()).startswith(self.core)
        )

    def have_fault(self, replica: str, **fault: Any) -> None:
        """Makes a stand-in engine misbehave; `fault` is the body of its `POST /fault`."""
        from serving.engine_protocol import engine_token

        headers = {"authorization": f"Bearer {engine_token()}"}
        url = f"http://{self.replicas()[replica]}/fault"
        httpx.post(url, json=fault, headers=headers, timeout=60).raise_for_status()


@contextlib.contextmanager
def running(engine: str, max_waiting: int, **settings: Any) -> Iterator[DeployedApp]:
    """A Ray with Serve and no application yet, of which nothing is left afterwards. `settings` are
    further ones of the model."""
    os.environ["PYTHONPATH"] = python_path()
    with local_ray(2):
        yield DeployedApp(engine, max_waiting, **settings)

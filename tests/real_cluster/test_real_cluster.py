"""`make test-cluster` on the API server of the tests, with a stand-in for the service's port."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.deploy import delete, follow, rollout, waiting
from tests.cli.conftest import cluster
from tests.cli.deployed import H100, K8S, MODEL, NAMESPACE, ROOT, make_ready, manifests
from tests.cluster.cluster import Cluster
from tests.k8s.manifests import needs_kubectl
from tests.real_cluster import __main__ as program
from tests.real_cluster import operations, service
from tests.support.http_server import BackgroundServer, json_response
from tests.support.stand_in_engine import StandInEngine

__all__ = ["cluster"]  # a fixture

Main = Callable[..., tuple[int, list[dict[str, Any]]]]


class Service(StandInEngine):
    """Answers as a router with two engines does."""

    interval_s = 0.002
    model = MODEL
    engines = ("a", "b")

    def answer_health(self) -> None:
        found = [{"replica": name} for name in self.engines]
        self.transport.write(json_response({"models": {MODEL: {"replicas": found}}}))


class CutsStreams(Service):
    """Ends streams early once two clients have their first whole answer."""

    async def stream(self, request: dict[str, Any]) -> None:
        await super().stream(request | {"max_tokens": 400 if self.requests < 6 else 3})


@pytest.fixture
def ready(cluster: Cluster) -> Cluster:
    """A cluster with all that k8s/ needs, on nodes of one engine each."""
    make_ready(cluster, gpu_nodes=0)
    for index in range(5):
        cluster.add_node(f"gpu-{index}", cpus=96, gpus=2, product=H100)
    return cluster


@pytest.fixture
def answering(ready: Cluster) -> Iterator[Callable[[type[Service]], None]]:
    """Puts a stand-in behind the routers' port, and runs the clients' commands on this machine."""
    servers = []

    def start(behaviour: type[Service]) -> None:
        server = BackgroundServer(type("Fresh", (behaviour,), {}))
        servers.append(server.__enter__())

        def run(pod: str, container: str, command: list[str]) -> str:
            if "VLLM" in command[-1]:
                return "killed\n"
            if command[0] == "python":
                command = [
                    sys.executable,
                    *command[1:3],
                    "127.0.0.1",
                    str(server.port),
                    *command[5:],
                ]
            result = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            assert result.returncode == 0, result.stderr
            return result.stdout

        ready.server.run = run
        ready.server.ports[8000] = server.port

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Main:
    """Runs the program, which polls at once instead of after seconds; its exit status and rows."""
    monkeypatch.setattr(follow, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(rollout, "SETTLE_S", 0.05)
    monkeypatch.setattr(delete, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(waiting, "_SHORT_S", 0.1)
    monkeypatch.setattr(service, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(service, "SETTLE_S", 0.05)
    monkeypatch.setattr(operations, "AWAY_S", 0.05)
    monkeypatch.setattr(program, "failed_checks", lambda url, key, ids: [])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        rows = tmp_path / "rows.json"
        options = ["--json", str(rows), "--streams=2", "--tokens=50", "--timeout=1"]
        monkeypatch.setattr(sys, "argv", ["real_cluster", *arguments, *options])
        with pytest.raises(SystemExit) as ended:
            program.main()
        code = ended.value.code
        return (code if isinstance(code, int) else 1), json.loads(rows.read_text())

    return run


def test_without_a_cluster_it_is_skipped_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["real_cluster", str(K8S)])
    program.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("skipped, as no cluster is reachable: there is no kubeconfig")


def names(cluster: Cluster) -> set[str]:
    return {each["metadata"]["name"] for each in cluster.api.store.objects(("", "namespaces"))}


@needs_kubectl
def test_a_service_is_installed_disturbed_and_uninstalled(
    ready: Cluster,
    answering: Callable[[type[Service]], None],
    main: Main,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    answering(Service)
    chosen = ("head", "Redis", "evicted", "node", "second", "fails", "uninstalled")
    ready.kubelet.broken_images.add("registry.test/mistral-serve:0.1.0-that-there-is-not")
    ready.kubelet.broken_images.add("registry.test/mistral-serve-cpu:0.1.0-that-there-is-not")
    status, rows = main(str(manifests(tmp_path)), *(f"--only={name}" for name in chosen))
    shown = capfd.readouterr().out
    by_name = {row["name"]: row for row in rows}
    assert status == 0, (shown, [row["faults"] for row in rows])
    for name in ("preflight", "apply to ready", "first answer", "uninstalled"):
        assert by_name[name]["took_s"] >= 0
    for name in ("head deleted", "Redis away for a minute", "second cluster takes over"):
        outcome = by_name[name]["outcome"]
        assert outcome["in_flight"] == 2
        assert (outcome["dropped"], outcome["truncated"]) == (0, 0)
        assert outcome["answers"] >= 2
        assert name in shown
    assert by_name["idle engine's pod evicted"]["outcome"] is None
    assert not {"mistral-serve-test", NAMESPACE} & names(ready)


@needs_kubectl
def test_a_lost_stream_is_a_fault(
    ready: Cluster, answering: Callable[[type[Service]], None], main: Main, tmp_path: Path
) -> None:
    answering(CutsStreams)
    status, rows = main(str(manifests(tmp_path)), "--only=head")
    assert status == 1
    assert rows[-1]["outcome"]["truncated"] > 0
    assert "truncated: status 200" in rows[-1]["faults"][0]


def test_a_service_that_is_there_is_left_alone(
    ready: Cluster, main: Main, capfd: pytest.CaptureFixture[str]
) -> None:
    ready.create(
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayService",
            "metadata": {"name": "mistral", "namespace": NAMESPACE},
            "spec": {"serveConfigV2": "", "rayClusterConfig": {"headGroupSpec": HEAD}},
        }
    )
    status, rows = main(str(K8S))
    assert (status, rows) == (1, [])
    assert ready.api.store.get(("ray.io", "rayservices"), NAMESPACE, "mistral") is not None


HEAD = {
    "rayStartParams": {},
    "template": {"spec": {"containers": [{"name": "ray-head", "image": "ray"}]}},
}


def test_every_operation_of_the_readme_is_there() -> None:
    names = " ".join(operation.name for operation in operations.OPERATIONS)
    for word in ("kill", "head", "Redis", "drained", "evicted", "config", "uninstalled"):
        assert word in names

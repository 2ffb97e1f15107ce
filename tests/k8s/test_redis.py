"""Redis as its manifest starts it, with Debian's redis-server where there is one."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.deploy.serve_config import config_of
from serving.router.responses.redis_store import LARGEST_BYTES, RedisStore
from serving.router.responses.store import StoredResponse
from tests.k8s.manifests import ROOT, base, the
from tests.support.ports import free_port
from tests.support.processes import kill
from tests.support.waiting import eventually, wait_for

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)
PASSWORD, NEW = "a1b2c3", "d4e5f6"
CONTAINER = the(base(), "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[bytes]"]:
    """Starts it in a folder of the test's."""
    config = the(base(), "ConfigMap", "redis")["data"]["redis.conf"]
    port = free_port()
    text = config.replace("/data", str(tmp_path)) + f"port {port}\nbind 127.0.0.1\n"
    (tmp_path / "redis.conf").write_text(text)
    (tmp_path / "port").write_text(str(port))
    command = [part.replace("/etc/redis", str(tmp_path)) for part in CONTAINER["command"]]
    return lambda password=PASSWORD: subprocess.Popen(
        command,
        env={"PATH": "/usr/bin:/bin", "REDIS_PASSWORD": password},
        stdout=subprocess.DEVNULL,
        restore_signals=False,  # SIGXFSZ stays ignored: a file that is too large is an error
    )


def ask(folder: Path, *words: str, password: str = PASSWORD) -> str:
    port = (folder / "port").read_text()
    environment = {"PATH": "/usr/bin:/bin", "REDISCLI_AUTH": password}
    command = ["redis-cli", "-p", port, "--no-auth-warning", *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    return result.stdout.strip()


async def test_state_outlives_the_pod_and_a_password_guards_it(
    tmp_path: Path, start: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    for round_ in range(2):
        redis = start()
        try:
            await eventually(lambda: ask(tmp_path, "ping") == "PONG", 30)
            assert "NOAUTH" in ask(tmp_path, "get", "key", password="")
            assert ask(tmp_path, "get", "key") == ("value" if round_ else "")
            ask(tmp_path, "set", "key", "value")
            # As the kubelet ends it: the shell must have made way for it.
            redis.terminate()
            assert redis.wait(30) == 0
        finally:
            redis.kill()
            redis.wait()


async def test_a_password_can_be_replaced_without_an_interruption(
    tmp_path: Path, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    """By the commands of deploy/docs/security.md."""
    page = (ROOT / "deploy/docs/security.md").read_text()
    (words,) = re.findall(r'^echo "(.*)" \| kubectl .* redis-cli$', page, re.MULTILINE)

    def accepted() -> list[str]:
        return [each for each in (PASSWORD, NEW) if ask(tmp_path, "ping", password=each) == "PONG"]

    redis = start()
    try:
        await eventually(lambda: accepted() == [PASSWORD], 30)
        assert ask(tmp_path, *words.replace("$new", NEW).split()) == "OK"
        assert accepted() == [PASSWORD, NEW]
    finally:
        redis.kill()
        redis.wait()
    redis = start(NEW)
    try:
        await eventually(lambda: accepted() == [NEW], 30)
    finally:
        redis.kill()
        redis.wait()


def test_a_file_that_a_power_cut_has_damaged_is_repaired(
    tmp_path: Path, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    """By the command of the runbook."""
    page = (ROOT / "dashboards/runbooks/MistralHeadWithoutFaultTolerance.md").read_text()
    (overrides,) = re.findall(r"--overrides='(.*)'$", page, re.MULTILINE)
    *shell, command = json.loads(overrides)["spec"]["containers"][0]["command"]
    redis = start()
    wait_for(lambda: ask(tmp_path, "set", "key", "value") == "OK", 30, "Redis")
    redis.kill()
    redis.wait()
    (written,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    with written.open("ab") as file:
        file.write(bytes(4096))
    assert start().wait(30) == 1
    subprocess.run([*shell, command.replace("/data", str(tmp_path))], check=True)
    redis = start()
    try:
        wait_for(lambda: ask(tmp_path, "get", "key") == "value", 30, "Redis")
    finally:
        redis.kill()
        redis.wait()


def probe(folder: Path, name: str) -> bool:
    """Whether a probe of the container succeeds."""
    redis_cli = folder / "bin/redis-cli"
    redis_cli.parent.mkdir(exist_ok=True)
    port = (folder / "port").read_text()
    redis_cli.write_text(f'#!/bin/sh\nexec {shutil.which("redis-cli")} -p {port} "$@"\n')
    redis_cli.chmod(0o755)
    environment = {"PATH": f"{redis_cli.parent}:/usr/bin:/bin", "REDISCLI_AUTH": PASSWORD}
    return subprocess.run(CONTAINER[name]["exec"]["command"], env=environment).returncode == 0


def append_only_file(folder: Path) -> Path:
    (file,) = folder.glob("appendonlydir/*.incr.aof")
    return file


async def test_a_full_disk_makes_it_unready_and_does_not_end_it(
    tmp_path: Path, start: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    redis = start()
    try:
        await eventually(lambda: probe(tmp_path, "readinessProbe"), 30)
        assert probe(tmp_path, "livenessProbe")
        assert ask(tmp_path, "set", "key", "value") == "OK"
        file = append_only_file(tmp_path)
        await eventually(lambda: b"value" in file.read_bytes(), 10)
        unlimited = psutil.RLIM_INFINITY
        disk = psutil.Process(redis.pid)
        disk.rlimit(psutil.RLIMIT_FSIZE, (file.stat().st_size, unlimited))
        await eventually(lambda: "MISCONF" in ask(tmp_path, "set", "key", "other"), 10)
        assert probe(tmp_path, "livenessProbe")
        assert not probe(tmp_path, "readinessProbe")
        assert ask(tmp_path, "get", "key") in ("value", "other")

        disk.rlimit(psutil.RLIMIT_FSIZE, (unlimited, unlimited))
        await eventually(lambda: probe(tmp_path, "readinessProbe"), 10)
        assert ask(tmp_path, "set", "key", "value") == "OK"
    finally:
        redis.kill()
        redis.wait()
    assert not probe(tmp_path, "livenessProbe")


async def test_a_snapshot_never_stops_the_writes(
    tmp_path: Path, start: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    redis = start()
    try:
        await eventually(lambda: ask(tmp_path, "ping") == "PONG", 30)
        assert ask(tmp_path, "config", "get", "save") == "save"
        redis.terminate()
        assert redis.wait(30) == 0
    finally:
        redis.kill()
        redis.wait()
    assert not (tmp_path / "dump.rdb").exists()


@pytest.mark.full
def test_all_the_responses_that_routers_may_store_leave_room_for_the_heads_state(
    tmp_path: Path, start: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    stored = config_of(base().service).router.responses
    redis = start()
    try:
        wait_for(lambda: ask(tmp_path, "ping") == "PONG", 30, "Redis")
        url = f"redis://127.0.0.1:{(tmp_path / 'port').read_text()}"
        store = RedisStore(url, PASSWORD, stored.keep_s, stored.max_bytes)
        content = os.urandom(LARGEST_BYTES - 100)
        for n in range(stored.max_bytes // LARGEST_BYTES + 4):
            assert store.put(StoredResponse("default", f"resp_{n}", "completed", b"[]", content))
        assert store.get("default", "resp_0") is None
        memory = dict(line.split(":") for line in ask(tmp_path, "info", "memory").splitlines()[1:])
        assert stored.max_bytes * 0.9 < int(memory["used_memory"]) < int(memory["maxmemory"]) / 2
        assert ask(tmp_path, "set", "state", "value") == "OK"
    finally:
        redis.kill()
        redis.wait()


AWAY_S = 60
_DRIVER = """
import sys, ray
from ray._raylet import GcsClient
ray.init(sys.argv[1], namespace="test", log_to_driver=False, logging_level="error")
client = GcsClient(address=sys.argv[1])

@ray.remote(num_cpus=0.1)  # which the head has not
class Actor:
    def answer(self):
        return "actor"

actors = {}
print("ready", flush=True)
for line in sys.stdin:
    verb, name = line.split()
    if verb == "create":
        actors[name] = Actor.options(name=name, lifetime="detached").remote()
    elif verb == "put":
        client.internal_kv_put(name.encode(), b"kept", True, b"test", timeout=30)
    if verb == "get":
        said = client.internal_kv_get(name.encode(), b"test", timeout=30).decode()
    else:
        said = "put" if verb == "put" else ray.get(actors[name].answer.remote(), timeout=60)
    print(said, flush=True)
"""
"""An application with actors, which does what it is told on standard input."""


class Ray:
    """A head with a worker, which are started as KubeRay starts them."""

    def __init__(self, folder: Path, redis: str) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        template = base().service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
        ray = template["spec"]["containers"][0]
        command = " ".join(ray["command"]).replace("/home/serve", str(folder))
        self._before = command.replace("6380", str(free_port()))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = os.environ | {
            "PATH": path, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # KubeRay's
        }  # fmt: skip
        of_head = {each["name"]: each["value"] for each in ray["env"]}
        self._of_head = of_head | {"RAY_REDIS_ADDRESS": redis, "REDIS_PASSWORD": PASSWORD}

    def _start(self, name: str, command: str, more: dict[str, str]) -> psutil.Popen:
        command += " --node-ip-address=127.0.0.1 --object-store-memory=100000000"
        return psutil.Popen(
            ["bash", "-c", f"{command} --disable-usage-stats"], env=self._environment | more,
            stdout=self.log(name).open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def start_head(self, name: str) -> psutil.Popen:
        port, folder = self.address.partition(":")[2], self._folder / "ray"
        (folder / "ray_current_cluster").unlink(missing_ok=True)  # a new pod's disk is empty
        command = (
            f"{self._before} && ulimit -n 65536; ray start --head --block --port={port} "
            f"--num-cpus=0 --include-dashboard=false --redis-password=$REDIS_PASSWORD "
            f"--temp-dir={folder}"
        )
        return self._start(name, command, self._of_head)

    def start_worker(self) -> psutil.Popen:
        return self._start("worker", f"ray start --block --address={self.address} --num-cpus=1", {})

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def wait_until_up(self, name: str) -> None:
        log = self.log(name)
        try:
            wait_for(lambda: "Ray runtime started" in log.read_text(), 180, name)
        except TimeoutError:
            raise AssertionError(log.read_text()) from None

    def application(self) -> Callable[[str], str]:
        """Starts it, and returns how to tell it what to do."""
        process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, self.address], env=self._environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1,
        )  # fmt: skip
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None

        def tell(line: str) -> str:
            stdin.write(f"{line}\n")
            return stdout.readline().strip()

        assert stdout.readline().strip() == "ready"
        return tell


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for Ray's sockets, whose paths must be short. No process is left afterwards."""
    folder = Path("/tmp") / f"redis-{os.getpid()}"
    folder.mkdir()
    yield folder
    kill(psutil.Process().children(recursive=True))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.full
def test_a_head_and_its_actors_outlive_a_minute_without_redis(
    tmp_path: Path, short_path: Path, start: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    redis = start()
    wait_for(lambda: ask(tmp_path, "ping") == "PONG", 30, "Redis")
    ray = Ray(short_path, f"127.0.0.1:{(tmp_path / 'port').read_text()}")
    head = ray.start_head("head")
    ray.wait_until_up("head")
    ray.start_worker()
    ray.wait_until_up("worker")
    tell = ray.application()
    assert (tell("create before"), tell("put key")) == ("actor", "put")
    (gcs,) = [each for each in head.children(recursive=True) if each.name() == "gcs_server"]
    redis.kill()
    redis.wait()
    back_s = time.monotonic() + AWAY_S
    wait_for(lambda: tell("call before") != "actor" or time.monotonic() > back_s, 2 * AWAY_S)
    redis = start()
    assert tell("create after") == "actor"
    assert tell("call before") == "actor"
    assert tell("get key") == "kept"
    assert gcs.is_running() and head.poll() is None

    # Another head waits for Redis, and continues with what the first one did since.
    redis.kill()
    redis.wait()
    kill([*head.children(recursive=True), head])
    head = ray.start_head("next")
    wait_for(lambda: "Local node IP" in ray.log("next").read_text(), 180, "ray start")
    assert head.poll() is None
    start()
    ray.wait_until_up("next")
    assert tell("call after") == "actor"
    assert tell("get key") == "kept"

"""Redis as its manifest starts it, with Debian's redis-server where there is one."""

import contextlib
import os
import shutil
import socket
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
from tests.k8s.manifests import base, the
from tests.support.waiting import eventually, wait_for

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)
PASSWORD = "a1b2c3"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], "subprocess.Popen[bytes]"]:
    """Starts it in a folder of the test's."""
    container = the(base(), "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]
    config = the(base(), "ConfigMap", "redis")["data"]["redis.conf"]
    port = free_port()
    text = config.replace("/data", str(tmp_path)) + f"port {port}\nbind 127.0.0.1\n"
    (tmp_path / "redis.conf").write_text(text)
    (tmp_path / "port").write_text(str(port))
    command = [part.replace("/etc/redis", str(tmp_path)) for part in container["command"]]
    environment = {"PATH": "/usr/bin:/bin", "REDIS_PASSWORD": PASSWORD}
    return lambda: subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


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
_STATE = """
import sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
if sys.argv[2:]:
    client.internal_kv_put(b"key", sys.argv[2].encode(), True, b"test", timeout=30)
nodes = client.get_all_node_info(timeout=30).values()
alive = sum(not node.is_head_node and node.state == node.ALIVE for node in nodes)
print(client.internal_kv_get(b"key", b"test", timeout=30).decode(), alive)
"""


class Ray:
    """A head with a worker, which are started as KubeRay starts them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        template = base().service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
        env = template["spec"]["containers"][0]["env"]
        self._environment = os.environ | {"TMPDIR": str(folder), "RAY_AUTH_MODE": "disabled"}
        self._environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"  # KubeRay's
        self._of_head = {each["name"]: each["value"] for each in env}
        self._of_head["RAY_REDIS_ADDRESS"] = f"127.0.0.1:{(folder / 'port').read_text()}"

    def start(self, name: str, *options: str, head: bool = False) -> psutil.Popen:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", "--block", "--node-ip-address=127.0.0.1", *options]
        command += ["--object-store-memory=100000000", "--disable-usage-stats"]
        environment = self._environment | (self._of_head if head else {})
        return psutil.Popen(command, env=environment, stdout=self.log(name).open("w"),
                            stderr=subprocess.STDOUT)  # fmt: skip

    def start_head(self, name: str) -> psutil.Popen:
        port, folder = self.address.partition(":")[2], self._folder / "ray"
        (folder / "ray_current_cluster").unlink(missing_ok=True)  # a new pod's disk is empty
        return self.start(
            name, "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
            f"--redis-password={PASSWORD}", f"--temp-dir={folder}", head=True,
        )  # fmt: skip

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def wait_until_up(self, name: str) -> None:
        wait_for(lambda: "Ray runtime started" in self.log(name).read_text(), 60, name)

    def state(self, *value: str) -> str:
        """The state that the head keeps for us, and how many workers it has."""
        command = [sys.executable, "-c", _STATE, self.address, *value]
        result = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True
        )
        return result.stdout.strip()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for Ray's sockets, whose paths must be short. No process is left afterwards."""
    folder = Path("/tmp") / f"redis-{os.getpid()}"
    folder.mkdir()
    yield folder
    left = psutil.Process().children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.full
def test_a_cluster_outlives_a_minute_without_redis(
    tmp_path: Path, short_path: Path, start: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    (short_path / "port").write_text((tmp_path / "port").read_text())
    ray, redis = Ray(short_path), start()
    wait_for(lambda: ask(tmp_path, "ping") == "PONG", 30, "Redis")
    head = ray.start_head("head")
    ray.wait_until_up("head")
    ray.start("worker", f"--address={ray.address}", "--num-cpus=1")
    ray.wait_until_up("worker")
    assert ray.state("kept") == "kept 1"
    redis.kill()
    redis.wait()
    away_s = time.monotonic()
    head.wait(60)  # it does not connect to Redis again, and KubeRay makes another
    head = ray.start_head("next")
    wait_for(lambda: head.poll() is not None or time.monotonic() > away_s + AWAY_S, 2 * AWAY_S)
    assert head.poll() is None, ray.log("next").read_text()
    start()
    ray.wait_until_up("next")
    assert ray.state() == "kept 1"

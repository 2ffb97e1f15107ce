"""Redis as its manifest starts it, with Debian's redis-server where there is one."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.k8s.manifests import base, the
from tests.support.waiting import eventually

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

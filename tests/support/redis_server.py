"""Debian's redis-server on a loopback port, with a password."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.support.ports import free_port
from tests.support.waiting import wait_for

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)


class RedisServer:
    """A server that can be stopped and started again, with what it held."""

    password = "the-password-of-redis"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}"

    def client(self) -> Redis:
        return Redis.from_url(self.url, password=self.password, protocol=2)

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self._process is not None:
            return
        config = f"bind 127.0.0.1\nport {self._port}\ndir {self._folder}\nappendonly yes\n"
        self._process = subprocess.Popen(
            ["redis-server", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{config}requirepass {self.password}\n".encode())
        self._process.stdin.close()
        wait_for(self._answers, 30, "Redis answers")

    def _answers(self) -> bool:
        with contextlib.suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def freeze(self) -> None:
        """Has it keep its connections, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            self._process.wait(30)
            self._process = None


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.cli import local_ray
from tests.support.waiting import wait_for

MAKES_SHARED_MEMORY = """
from multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=100)
print(memory.name, flush=True)
input()
"""


def test_shared_memory_of_a_child_that_was_killed_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_ray, "_WATCH_PERIOD_S", 0.01)
    with local_ray.no_shared_memory_left() as seen:
        child = subprocess.Popen(
            [sys.executable, "-c", MAKES_SHARED_MEMORY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None
        path = Path("/dev/shm", child.stdout.readline().strip())
        wait_for(lambda: path in seen, 10, "it is seen")
        os.killpg(child.pid, signal.SIGKILL)  # and with it Python's resource tracker
        child.communicate()
        assert path.exists()
    assert not path.exists()


def test_signals_while_it_cleans_up_kill_what_is_left_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")  # so that it is restored
    interrupts = [signal.SIGINT, signal.SIGTERM]
    handlers = [signal.getsignal(number) for number in interrupts]
    stubborn: list[subprocess.Popen[bytes]] = []

    def shutdown() -> None:
        for number in interrupts:
            signal.raise_signal(number)

    monkeypatch.setattr(
        "ray.init", lambda **_: stubborn.append(subprocess.Popen(["sleep", "1000"]))
    )
    monkeypatch.setattr("ray.serve.start", lambda **_: None)
    monkeypatch.setattr("ray.shutdown", shutdown)
    monkeypatch.setattr(local_ray, "_EXIT_TIMEOUT_S", 1000)
    with pytest.raises(KeyboardInterrupt), local_ray.local_ray(1):
        folder = Path(os.environ["TMPDIR"])
        assert folder.is_dir()
        raise KeyboardInterrupt
    (process,) = stubborn
    assert process.poll() is not None
    assert not folder.exists()
    assert [signal.getsignal(number) for number in interrupts] == handlers

"""A Ray of our own on this machine, which leaves nothing behind."""

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

_EXIT_TIMEOUT_S = 15
_EXIT_POLL_S = 0.2
_WATCH_PERIOD_S = 5
"""An engine takes longer to start, after it has made its shared memory."""


@contextlib.contextmanager
def local_ray(cpus: int) -> Iterator[Path]:
    """Runs Ray and Ray Serve's controller while the context is open; gives the folder of their
    logs. At the end all their processes are gone, and all files that they made; a signal then
    kills them at once.
    """
    # Given, so that Ray does not write one to the home folder.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    with contextlib.ExitStack() as clean_up, no_shared_memory_left() as shared:
        # Short, because paths of Unix sockets below it may have 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="mistral-serve-", dir="/tmp"))
        try:
            # Inherited by Ray's processes and vLLM's, which leave sockets there when killed.
            os.environ["TMPDIR"] = str(folder)
            ray.init(
                address="local",
                num_cpus=max(cpus, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=128 * 1024 * 1024,
                log_to_driver=False,
                logging_level=logging.WARNING,
                _temp_dir=str(folder),
            )
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
            serve.start(proxy_location="Disabled")
            yield folder / "session_latest" / "logs"
        finally:
            hurry = clean_up.enter_context(signals_noted())
            processes = psutil.Process().children(recursive=True)
            shared.update(shared_memory(processes))
            ray.shutdown()
            end(processes, hurry)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def signals_noted() -> Iterator[threading.Event]:
    """Gives what SIGINT and SIGTERM set while the context is open; they interrupt nothing."""
    noted = threading.Event()
    numbers = signal.SIGINT, signal.SIGTERM
    handlers = [signal.signal(number, lambda *_: noted.set()) for number in numbers]
    try:
        yield noted
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def no_shared_memory_left() -> Iterator[set[Path]]:
    """Gives what this process's children have in /dev/shm, as it comes, and removes it at the end.
    Python's own tracker of such things does so, unless it is killed with the child.
    """
    seen: set[Path] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_WATCH_PERIOD_S):
            seen.update(shared_memory(psutil.Process().children(recursive=True)))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()
        for path in seen:
            path.unlink(missing_ok=True)


def shared_memory(processes: Iterable[psutil.Process]) -> set[Path]:
    """What these processes have in /dev/shm."""
    paths: set[Path] = set()
    for process in processes:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            paths.update(map(Path, re.findall(r"/dev/shm/(?:psm_|sem\.mp-)[\w-]+", maps)))
    return paths


def end(processes: list[psutil.Process], hurry: threading.Event) -> None:
    """Waits for processes to end, and kills those that do not, or at once in a hurry."""
    alive = processes
    deadline_s = time.monotonic() + _EXIT_TIMEOUT_S
    while alive and not hurry.is_set() and time.monotonic() < deadline_s:
        _, alive = psutil.wait_procs(alive, timeout=_EXIT_POLL_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_EXIT_TIMEOUT_S)

"""A Ray of our own on this machine, which leaves nothing behind."""

import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

_EXIT_TIMEOUT_S = 15


@contextlib.contextmanager
def local_ray(cpus: int) -> Iterator[Path]:
    """Runs Ray and Ray Serve's controller while the context is open; gives the folder of their
    logs. At the end all their processes are gone, and all files that they made.
    """
    began_s = time.time()
    # Short, because paths of Unix sockets below it may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mistral-serve-", dir="/tmp"))
    # Inherited by Ray's processes and vLLM's, which leave sockets there when killed.
    os.environ["TMPDIR"] = str(folder)
    # Given, so that Ray does not write one to the home folder.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    try:
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
        processes = psutil.Process().children(recursive=True)
        ray.shutdown()
        end(processes)
        for path in abandoned_shared_memory(began_s):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def abandoned_shared_memory(since_s: float) -> set[Path]:
    """What Python's processes have left in /dev/shm, made since then and in use by nobody: their
    tracker of such things removes it, unless it is killed with them.
    """
    paths: set[Path] = set()
    for pattern in ("psm_*", "sem.mp-*"):
        for path in Path("/dev/shm").glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if status.st_uid == os.getuid() and status.st_mtime >= since_s:
                    paths.add(path)
    return paths - shared_memory(psutil.process_iter()) if paths else paths


def shared_memory(processes: Iterable[psutil.Process]) -> set[Path]:
    """What these processes have in /dev/shm."""
    paths: set[Path] = set()
    for process in processes:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            paths.update(map(Path, re.findall(r"/dev/shm/(?:psm_|sem\.mp-)[\w-]+", maps)))
    return paths


def end(processes: list[psutil.Process]) -> None:
    """Waits for processes to end, and kills those that do not."""
    _, alive = psutil.wait_procs(processes, timeout=_EXIT_TIMEOUT_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_EXIT_TIMEOUT_S)

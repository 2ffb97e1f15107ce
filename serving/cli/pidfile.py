"""Where `up` notes its process, so that `down` and `monitor` find it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from serving.cli.preflight import PreflightError

_CLOCK_SLACK_S = 10
"""A process's time of creation moves when the machine's clock is set or the machine sleeps."""


def path(port: int) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mistral-serve" / f"up-{port}.pid"


@contextlib.contextmanager
def noted(port: int) -> Iterator[None]:
    """Notes this process as the one that serves on `port`. Raises PreflightError."""
    file = path(port)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{os.getpid()} {psutil.Process().create_time()}")
    except OSError as error:
        raise PreflightError(
            f"{file}: {error.strerror}. Set XDG_CACHE_HOME to a folder that can be written."
        ) from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def note_ray_metrics(port: int, address: str) -> None:
    """This process, which is noted, has a Ray that exports its metrics at `address`."""
    with path(port).open("a") as file:
        file.write(f" {address}")


def ray_metrics(port: int) -> str | None:
    """Where the Ray of the running `mistral-serve up` of that port exports its metrics."""
    if find(port) is None:
        return None
    _, _, *address = path(port).read_text().split()
    return address[0] if address else None


def find(port: int) -> psutil.Process | None:
    """The running `mistral-serve up` of that port."""
    try:
        pid, created_s, *_ = path(port).read_text().split()
        process = psutil.Process(int(pid))
        # After a kill the number may belong to another program.
        same = abs(process.create_time() - float(created_s)) < _CLOCK_SLACK_S
        return process if same else None
    except (OSError, ValueError, psutil.Error):
        return None

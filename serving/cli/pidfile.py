"""Where `up` notes its process, so that `down` finds it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def path(port: int) -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mistral-serve" / f"up-{port}.pid"


@contextlib.contextmanager
def noted(port: int) -> Iterator[None]:
    """Notes this process as the one that serves on `port`."""
    file = path(port)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(str(os.getpid()))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def find(port: int) -> psutil.Process | None:
    """The running `mistral-serve up` of that port."""
    try:
        process = psutil.Process(int(path(port).read_text()))
        # The number may belong to another program by now.
        return process if "mistral-serve" in " ".join(process.cmdline()) else None
    except (OSError, ValueError, psutil.Error):
        return None

"""Processes that a test has started."""

import contextlib
from collections.abc import Collection

import psutil


def kill(processes: Collection[psutil.Process]) -> None:
    """Returns when they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)

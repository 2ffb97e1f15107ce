"""Keeps what vLLM prints out of the terminal."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[TextIO]:
    """Has this process and those that it starts write stdout and stderr to a new file while the
    context is open. Yields the stderr from before. Raises OSError if there can be no such file."""
    with path.open("w") as file, contextlib.ExitStack() as stack:
        terminal = stack.enter_context(os.fdopen(os.dup(2), "w", buffering=1))
        for fd in (1, 2):
            _flush()
            stack.callback(_restore, os.dup(fd), fd)
            os.dup2(file.fileno(), fd)
        yield terminal


def _restore(saved: int, fd: int) -> None:
    _flush()
    os.dup2(saved, fd)
    os.close(saved)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()

"""Keeps the log of a Ray Serve replica through what vLLM and uvicorn do to logging."""

import contextlib
import logging
from collections.abc import Iterator
from logging.handlers import MemoryHandler


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Code that configures logging with `dictConfig` closes every handler of the process. Serve's
    would be left without its file: no more of the replica is logged, and Serve's controller stops
    the replica when it comes back after the head's death, as it asks for the file's name.
    """
    handlers = [
        (handler, handler.target)
        for handler in logging.getLogger("ray.serve").handlers
        if isinstance(handler, MemoryHandler)
    ]
    try:
        yield
    finally:
        for handler, target in handlers:
            handler.setTarget(target)

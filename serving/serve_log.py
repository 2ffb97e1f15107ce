"""Protects the log of a Ray Serve replica from the logging configuration of vLLM and uvicorn."""

import contextlib
import logging
from collections.abc import Iterator
from logging.handlers import MemoryHandler


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps Serve's log handlers while code in the context configures logging. `dictConfig` closes
    every handler of the process. Without its file nothing of the replica is logged any more, and
    Serve's controller, which asks for the file's name, stops the replica after a restart of the
    head."""
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

"""Protects the log of a Ray Serve replica from the logging configuration of vLLM and uvicorn."""

import contextlib
import logging
from collections.abc import Iterator
from logging.handlers import MemoryHandler, RotatingFileHandler
from pathlib import Path

_TO_SESSION = 2
"""Where Ray's session folder is among the parents of `logs/serve/replica_….log`."""


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


def log_handler() -> RotatingFileHandler:
    """Returns the handler that writes this replica's log. Raises RuntimeError if there is none."""
    for handler in logging.getLogger("ray.serve").handlers:
        own = getattr(handler, "target", handler)
        if isinstance(own, RotatingFileHandler):
            return own
    raise RuntimeError("Ray Serve has no log file in this process")


def session_folder() -> Path:
    """Returns the session folder of Ray on this node, which ends with the service. Raises
    RuntimeError outside a replica of Serve."""
    return Path(log_handler().baseFilename).parents[_TO_SESSION]

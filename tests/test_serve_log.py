"""Ray Serve's log survives code that configures logging anew."""

import logging
import logging.config
from collections.abc import Iterator
from logging.handlers import MemoryHandler, RotatingFileHandler
from pathlib import Path

import pytest

from serving import serve_log
from serving.router.http.server import server_config


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[MemoryHandler]:
    """Yields the handler that Serve gives the logger of a replica."""
    logger = logging.getLogger("ray.serve")
    file = RotatingFileHandler(tmp_path / "replica.log")
    handler = MemoryHandler(1, target=file)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    handler.close()
    file.close()


def test_what_configures_logging_leaves_the_log_as_it_was(
    handler: MemoryHandler, tmp_path: Path
) -> None:
    with serve_log.kept():
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        assert handler.target is None  # otherwise there is nothing to keep
    logging.getLogger("ray.serve").warning("still here")
    assert "still here" in (tmp_path / "replica.log").read_text()


def test_the_routers_server_leaves_the_log_alone(handler: MemoryHandler) -> None:
    server_config(None)
    assert handler.target is not None

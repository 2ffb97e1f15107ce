from pathlib import Path

import pytest

from serving.config import ResponsesConfig
from tests.router.conftest import start_router
from tests.support.event_loop import pytest_asyncio_loop_factories
from tests.support.live_router import LiveRouter, StartRouter
from tests.support.response_engine import ResponseEngine

__all__ = ["pytest_asyncio_loop_factories", "start_router"]


@pytest.fixture
def stored(tmp_path: Path) -> ResponsesConfig:
    return ResponsesConfig(folder=str(tmp_path / "responses"))


@pytest.fixture
async def router(start_router: StartRouter, stored: ResponsesConfig) -> LiveRouter:
    """A router that stores responses, with one healthy engine."""
    return await start_router(ResponseEngine, responses=stored)

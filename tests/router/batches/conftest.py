from pathlib import Path

import pytest

from serving.config import BatchesConfig
from serving.router.batches import runner
from tests.router.conftest import start_router
from tests.support.engines import Engine
from tests.support.event_loop import pytest_asyncio_loop_factories
from tests.support.live_router import LiveRouter, StartRouter

__all__ = ["pytest_asyncio_loop_factories", "start_router"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers look often for batches to run."""
    monkeypatch.setattr(runner, "PERIOD_S", 0.02)


@pytest.fixture
def stored(tmp_path: Path) -> BatchesConfig:
    return BatchesConfig(folder=str(tmp_path))


@pytest.fixture
async def router(start_router: StartRouter, stored: BatchesConfig) -> LiveRouter:
    """A router that keeps batches, with one healthy engine."""
    return await start_router(Engine, batches=stored)

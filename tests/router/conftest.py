from collections.abc import AsyncIterator

import pytest

from tests.support.engines import Engine
from tests.support.event_loop import pytest_asyncio_loop_factories
from tests.support.live_router import LiveRouter, StartRouter, starting_routers

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture
async def start_router() -> AsyncIterator[StartRouter]:
    """Returns a function to call as `await start_router(*engine behaviours, **settings)`. Its
    routers are stopped at the end of the test, and checked to have left nothing behind."""
    async with starting_routers() as start:
        yield start


@pytest.fixture
async def router(start_router: StartRouter) -> LiveRouter:
    """A router with one healthy engine."""
    return await start_router(Engine)

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from tests.support.engines import Engine
from tests.support.live_router import LiveRouter, StartRouter, running_router


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], Any]]:
    """Production's event loop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def start_router() -> AsyncIterator[StartRouter]:
    """`await start_router(*engine behaviours, **settings)`; stopped, and checked to have left
    nothing behind, at the end of the test.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(*behaviours: type[Engine], **settings: Any) -> LiveRouter:
            return await stack.enter_async_context(running_router(*behaviours, **settings))

        yield start


@pytest.fixture
async def router(start_router: StartRouter) -> LiveRouter:
    """A router with one healthy engine."""
    return await start_router(Engine)

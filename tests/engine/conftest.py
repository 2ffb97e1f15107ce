from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from tests.engine.pictures import PNG
from tests.engine.web import Web, picture, running_web


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], Any]]:
    """Production's event loop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with running_web() as web:
        web.routes["/a.png"] = picture(PNG)
        yield web

from collections.abc import AsyncIterator

import pytest

from tests.engine.pictures import PNG
from tests.engine.web import Web, picture, running_web
from tests.support.event_loop import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with running_web() as web:
        web.routes["/a.png"] = picture(PNG)
        yield web

"""Calls a store of responses without blocking the event loop."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from serving.router.responses import errors
from serving.router.responses.store import ResponseStore, StoreError

T = TypeVar("T")
Kept = Literal["stored", "too_large", "failed"]
"""What became of an answer that was to be stored; `failed` is also a read of the store."""

log = logging.getLogger(__name__)


class StoreCalls:
    """Calls the store in a thread of its own, one call after the other."""

    def __init__(self, store: ResponseStore, count: Callable[[Kept], None]) -> None:
        """`count` is called once for each answer that was to be stored."""
        self.count = count
        self.closed = False
        self._store = store
        self._thread = ThreadPoolExecutor(1, "responses")
        self._failing = False

    async def __call__(self, call: Callable[..., T], *arguments: Any) -> T:
        """Raises StoreError."""
        if self.closed:
            raise StoreError("the router has stopped")
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._thread, call, *arguments)
        self._failing = False
        return done

    async def for_client(self, call: Callable[..., T], *arguments: Any) -> T:
        """Calls the store for a request that needs it. Raises ApiError."""
        try:
            return await self(call, *arguments)
        except StoreError as error:
            self.note(error)
            self.count("failed")
            raise errors.store_failed() from None

    def note(self, why: object) -> None:
        """Logs the first of several failures in a row."""
        if not self._failing:
            log.error("responses cannot be stored: %s", why)
        self._failing = True

    async def close(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self(self._store.close)
        except TimeoutError:
            pass
        finally:
            self.closed = True
            self._thread.shutdown(wait=False)

"""Waiting for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T], timeout_s: float = 60, what: str = "the condition is true"
) -> T:
    """Returns the first true value of `condition()`. Raises TimeoutError after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.005)
    return value


async def eventually(condition: Callable[[], object], within_s: float = 5) -> None:
    """Returns once `condition()` is true, and lets the event loop run until then. Raises
    TimeoutError after `within_s`.
    """
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the condition was not true within {within_s:g} s")
        await asyncio.sleep(0.001)

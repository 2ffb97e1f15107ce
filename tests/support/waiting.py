"""Waits for conditions instead of fixed times."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LEAST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.2


def wait_for(
    condition: Callable[[], T], timeout_s: float = 60, what: str = "the condition is true"
) -> T:
    """Returns the first true value of `condition()`. Raises TimeoutError after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        asked_s = time.monotonic()
        if value := condition():
            return value
        answered_s = time.monotonic()
        if answered_s > deadline_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        # A costly condition, over HTTP or over all processes, must not occupy a core.
        time.sleep(min(max(_LEAST_PAUSE_S, 4 * (answered_s - asked_s)), _LONGEST_PAUSE_S))


async def eventually(condition: Callable[[], object], within_s: float = 30) -> None:
    """Returns once `condition()` is true, and lets the event loop run until then. Raises
    TimeoutError after `within_s`."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the condition was not true within {within_s:g} s")
        await asyncio.sleep(0.001)

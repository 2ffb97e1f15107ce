"""Bounds the pixels of decoded images in memory: a request of a few kB may expand to gigabytes."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from serving.engine.image_file import MediaError


@dataclass(eq=False)
class _Request:
    pixels: int = 0
    over: bool = False


_request: ContextVar[_Request | None] = ContextVar("request", default=None)


class HeldPixels:
    """Lets each request hold `max_pixels`, and all requests together as many. The oldest request is
    exempt from the common limit and never waits, so that requests cannot deadlock."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._held: dict[_Request, int] = {}
        """The pixels that each request holds, oldest request first."""
        self._given_back = asyncio.Event()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """What this task and those that it starts take inside the context is held until its end."""
        request = _Request()
        token = _request.set(request)
        try:
            yield
        finally:
            _request.reset(token)
            request.over = True
            self._held.pop(request, None)
            self._given_back.set()
            self._given_back = asyncio.Event()

    async def take(self, pixels: int) -> None:
        """Waits until an image of that many pixels may be decoded. Raises MediaError if the request
        has too many. Outside of a request nothing is counted."""
        request = _request.get()
        if request is None:
            return
        request.pixels += pixels
        if request.pixels > self._max_pixels:
            raise MediaError(
                f"the images of its request have more than {self._max_pixels:,} pixels together"
            )
        while not self._may_hold(request, pixels):
            await self._given_back.wait()
        self._held[request] += pixels

    def _may_hold(self, request: _Request, pixels: int) -> bool:
        if request.over:  # another of its images was rejected
            raise MediaError("its request has ended")
        self._held.setdefault(request, 0)
        oldest = next(iter(self._held))
        return request is oldest or sum(self._held.values()) + pixels <= self._max_pixels

"""The limits on the pixels of decoded images."""

import asyncio

import pytest

from serving.engine.held_pixels import HeldPixels
from serving.engine.image_file import MediaError
from serving.engine.media import HELD_PIXELS, ImageFetcher
from tests.engine.pictures import data_url, encoded
from tests.engine.web import load, refused

TEN = data_url(encoded(size=(5, 2)))
"""An image of ten pixels."""


class Request:
    """A request that takes pixels and holds them until `end`."""

    def __init__(self, held: HeldPixels, *pixels: int) -> None:
        self.taken = 0
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._run(held, pixels))

    async def _run(self, held: HeldPixels, pixels: tuple[int, ...]) -> None:
        with held.request():
            for each in pixels:
                await held.take(each)
                self.taken += each
                await asyncio.sleep(0)  # the other requests' turn
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_images_of_a_request_have_a_limit_together() -> None:
    fetcher = ImageFetcher(held_pixels=(held := HeldPixels(20)))
    with held.request():
        for _ in range(2):
            await load(fetcher, TEN)
        assert await refused(fetcher, TEN) == (
            "The image in a data URL cannot be used: the images of its request have more than 20 "
            "pixels together."
        )
    with held.request():
        await load(fetcher, TEN)


async def test_the_limit_is_one_of_all_the_tasks_that_a_request_starts() -> None:
    fetcher = ImageFetcher(held_pixels=(held := HeldPixels(29)))
    with held.request():
        results = await asyncio.gather(
            *(load(fetcher, TEN) for _ in range(3)), return_exceptions=True
        )
    assert sum(isinstance(result, MediaError) for result in results) == 1


async def test_ten_photos_of_a_phone_are_within_the_limit() -> None:
    with HELD_PIXELS.request():
        for _ in range(10):
            await HELD_PIXELS.take(4032 * 3024)


async def test_a_request_waits_until_others_have_given_theirs_back() -> None:
    held = HeldPixels(20)
    first, second = Request(held, 10), Request(held, 5)
    third, fourth = Request(held, 10), Request(held, 5)
    await settled()
    assert [r.taken for r in (first, second, third, fourth)] == [10, 5, 0, 5]
    await second.end()
    await settled()
    assert third.taken == 0
    await first.end()
    await settled()
    assert third.taken == 10
    for request in (third, fourth):
        await request.end()


async def test_requests_that_each_hold_a_part_do_not_wait_for_each_other() -> None:
    held = HeldPixels(20)
    requests = [Request(held, 10, 10), Request(held, 10, 10), Request(held, 10, 10)]
    await settled()
    assert [request.taken for request in requests] == [20, 10, 0]
    for request in requests:
        async with asyncio.timeout(5):
            await request.end()
    assert [request.taken for request in requests] == [20, 20, 20]


async def test_a_request_aborted_while_it_waits_leaves_nothing() -> None:
    held = HeldPixels(20)
    first, second = Request(held, 20), Request(held, 20)
    await settled()
    second.task.cancel()
    await first.end()
    third = Request(held, 20)
    await settled()
    assert (second.taken, third.taken) == (0, 20)
    await third.end()


async def test_an_image_that_comes_after_the_end_of_its_request_is_not_held() -> None:
    held = HeldPixels(20)
    ended = asyncio.Event()

    async def late() -> None:
        await ended.wait()
        await held.take(20)

    with held.request():
        task = asyncio.create_task(late())
        await settled()
    ended.set()
    with pytest.raises(MediaError, match="its request has ended"):
        await task
    other, one_more = Request(held, 20), Request(held, 0)
    await settled()
    assert other.taken == 20
    for request in (other, one_more):
        await request.end()

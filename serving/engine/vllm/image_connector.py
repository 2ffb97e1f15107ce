"""Loads the images of requests for vLLM, and keeps them while a request is rendered."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, ImageMediaIO, MediaConnector

from serving.engine.media import ImageFetcher
from serving.engine.png_colours import corrected
from serving.engine.vllm.cache_salt import CACHE_SALT

NAME = "image-fetcher"
"""The connector's name in vLLM's registry."""

_images: ContextVar[dict[str, Any]] = ContextVar("images")
"""The images of the request that is being rendered, by URL."""


@contextmanager
def images_kept() -> Iterator[None]:
    """Keeps the images that are loaded within the context, for `loaded_image`."""
    token = _images.set({})
    try:
        yield
    finally:
        _images.reset(token)


def loaded_image(url: str) -> Any:
    """Returns vLLM's image of that URL. Raises KeyError if the request has not loaded it."""
    return _images.get({})[url]


@MEDIA_CONNECTOR_REGISTRY.register(NAME)
class ImageConnector(MediaConnector):  # type: ignore[misc]
    """Loads the images of requests in place of vLLM's own connector. It respects the flag
    `allowed-media-domains`, and ignores `allowed-local-media-path`. vLLM's caches of
    processed and encoded images take equal images with different cache salts for different ones."""

    def __init__(
        self,
        media_io_kwargs: dict[str, dict[str, Any]] | None = None,
        *,
        allowed_local_media_path: str = "",
        allowed_media_domains: list[str] | None = None,
    ) -> None:
        super().__init__(media_io_kwargs)
        self._fetcher = ImageFetcher(allowed_media_domains or ())

    async def load_from_url_async(
        self, url: str, media_io: Any, *, fetch_timeout: int | None = None
    ) -> Any:
        image = await self._fetcher.load(url, partial(_decoded, media_io))
        if (salt := CACHE_SALT.get()) is not None:
            image = replace(image, io_config={**(image.io_config or {}), "cache_salt": salt})
        return _images.get({}).setdefault(url, image)

    def load_from_url(self, url: str, media_io: Any, *, fetch_timeout: int | None = None) -> Any:
        return asyncio.run(self.load_from_url_async(url, media_io))


def _decoded(media_io: Any, data: bytes) -> Any:
    """Returns vLLM's image of that file, with its colours corrected where they need it."""
    image = media_io.load_bytes(data)
    if isinstance(media_io, ImageMediaIO) and image.media.mode == "RGB":
        picture = corrected(data, media_io.rgba_background_color)
        if picture is not None:
            image = replace(image, media=picture)
    return image

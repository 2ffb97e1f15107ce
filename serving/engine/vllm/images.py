"""Makes vLLM and mistral_common load the images of requests through `ImageFetcher` alone."""

import asyncio
import os
from contextvars import ContextVar, copy_context
from dataclasses import replace
from functools import partial
from typing import Any

import mistral_common.tokens.tokenizers.image as mistral_image
from mistral_common.protocol.instruct.chunk import ImageChunk, ImageURLChunk
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, ImageMediaIO, MediaConnector
from vllm.renderers.mistral import MistralRenderer, safe_apply_chat_template
from vllm.renderers.registry import RENDERER_REGISTRY

from serving.engine.media import HELD_PIXELS, ImageFetcher
from serving.engine.png_colours import corrected
from serving.engine.vllm.cache_salt import CACHE_SALT
from serving.engine.vllm.chat_tokenizer import chat_tokenizer

_images: ContextVar[dict[str, Any]] = ContextVar("images")
"""The images of the request that is being rendered, by URL."""


@MEDIA_CONNECTOR_REGISTRY.register("image-fetcher")
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


class ImageRenderer(MistralRenderer):  # type: ignore[misc]
    """Gives the tokenizer of chats the images that vLLM has loaded.

    mistral_common would load each URL a second time by itself, unchecked and from local files too.
    It also ignores the EXIF rotation that vLLM applies: the prompt would then hold tokens for
    another size, and the request would fail with a 500.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._chat_tokenizer = chat_tokenizer(self.get_tokenizer())
        self._apply_chat_template_async = self._apply_in_context

    async def render_chat_async(self, *args: Any, **kwargs: Any) -> Any:
        with HELD_PIXELS.request():  # until the images are converted to model inputs
            return await super().render_chat_async(*args, **kwargs)

    async def render_messages_async(self, messages: Any, params: Any) -> Any:
        token = _images.set({})
        try:
            conversation, prompt = await super().render_messages_async(messages, params)
        finally:
            _images.reset(token)
        return conversation, _without_uuids(prompt)

    def render_messages(self, messages: Any, params: Any) -> Any:
        token = _images.set({})
        try:
            conversation, prompt = super().render_messages(messages, params)
        finally:
            _images.reset(token)
        return conversation, _without_uuids(prompt)

    async def _apply_in_context(self, _: Any, messages: Any, **kwargs: Any) -> Any:
        apply = partial(safe_apply_chat_template, self._chat_tokenizer, messages, **kwargs)
        run = partial(copy_context().run, apply)
        return await asyncio.get_running_loop().run_in_executor(self._executor, run)


def _without_uuids(prompt: dict[str, Any]) -> dict[str, Any]:
    """Returns the prompt without the keys by which vLLM would find a client's images in its caches,
    whatever their pixels and their cache salt are."""
    return {name: value for name, value in prompt.items() if name != "multi_modal_uuids"}


def _image_from_chunk(chunk: ImageChunk | ImageURLChunk) -> Any:
    """Replaces mistral_common's function of this name, and loads nothing."""
    if isinstance(chunk, ImageChunk):
        return chunk.image
    try:
        return _images.get({})[chunk.get_url()].media
    except KeyError:
        raise ValueError("An image of this request has no URL to load it from.") from None


def load_images_safely() -> None:
    """Makes ImageConnector the only loader of requests' images in this process."""
    os.environ["VLLM_MEDIA_CONNECTOR"] = "image-fetcher"
    RENDERER_REGISTRY.renderers["mistral"] = (__name__, ImageRenderer.__name__)
    mistral_image.image_from_chunk = _image_from_chunk

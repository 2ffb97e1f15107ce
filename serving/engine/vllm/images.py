"""Makes vLLM and mistral_common load the images of requests through `ImageFetcher` alone."""

import os
from typing import Any

import mistral_common.tokens.tokenizers.image as mistral_image
from mistral_common.protocol.instruct.chunk import ImageChunk, ImageURLChunk
from vllm.renderers.registry import RENDERER_REGISTRY

from serving.engine.vllm import image_connector
from serving.engine.vllm.chat_renderer import ChatRenderer


def load_images_safely() -> None:
    """Makes ImageConnector the only loader of requests' images in this process."""
    os.environ["VLLM_MEDIA_CONNECTOR"] = image_connector.NAME
    RENDERER_REGISTRY.renderers["mistral"] = ChatRenderer.__module__, ChatRenderer.__name__
    mistral_image.image_from_chunk = _image_from_chunk


def _image_from_chunk(chunk: ImageChunk | ImageURLChunk) -> Any:
    """Replaces mistral_common's function of this name, and loads nothing."""
    if isinstance(chunk, ImageChunk):
        return chunk.image
    try:
        return image_connector.loaded_image(chunk.get_url()).media
    except KeyError:
        raise ValueError("An image of this request has no URL to load it from.") from None

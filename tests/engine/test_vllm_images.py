"""Images inside vLLM are loaded by the engine's fetcher and nothing else."""

import asyncio
import base64
import inspect
import io
from types import SimpleNamespace
from typing import Any

import mistral_common.tokens.tokenizers.image as mistral_image
import pytest
import vllm.envs
from mistral_common.protocol.instruct.chunk import ImageChunk, ImageURL, ImageURLChunk
from PIL import Image
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY
from vllm.renderers import mistral as vllm_mistral
from vllm.renderers.registry import RENDERER_REGISTRY

from serving.engine.held_pixels import HeldPixels
from serving.engine.image_file import MediaError
from serving.engine.vllm import chat_renderer
from serving.engine.vllm.chat_renderer import ChatRenderer
from serving.engine.vllm.image_connector import ImageConnector
from serving.engine.vllm.images import load_images_safely

TURNED = 6
"""EXIF orientation of a photo to be displayed rotated by 90 degrees."""


def photo(size: tuple[int, int], orientation: int = 1) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "JPEG", exif=exif)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(autouse=True)
def images_loaded_safely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_MEDIA_CONNECTOR", raising=False)
    monkeypatch.setattr(mistral_image, "image_from_chunk", mistral_image.image_from_chunk)
    renderers = dict(RENDERER_REGISTRY.renderers)
    monkeypatch.setattr(RENDERER_REGISTRY, "renderers", renderers)
    load_images_safely()


@pytest.fixture
def connector() -> Any:
    """Returns a connector as vLLM makes for each request. The local path must have no effect."""
    return MEDIA_CONNECTOR_REGISTRY.load(
        vllm.envs.VLLM_MEDIA_CONNECTOR,
        media_io_kwargs=None,
        allowed_local_media_path="/",
        allowed_media_domains=["example.com"],
    )


def encode(url: str) -> Any:
    """Returns mistral_common's tokens of an image."""
    config = mistral_image.ImageConfig(14, 1540, 2)
    ids = mistral_image.SpecialImageIDs(img=10, img_break=12, img_end=13)
    encoder = mistral_image.ImageEncoder(config, ids)
    return encoder(ImageURLChunk(image_url=ImageURL(url=url))).tokens


def test_vllm_uses_the_engines_connector_and_renderer(connector: Any) -> None:
    assert type(connector) is ImageConnector
    assert RENDERER_REGISTRY.load_renderer_cls("mistral") is ChatRenderer


def test_an_image_is_what_vllm_takes_for_one(connector: Any) -> None:
    image = connector.fetch_image(photo((56, 28)))
    assert isinstance(image.media, Image.Image)
    assert (image.media.mode, image.media.size) == ("RGB", (56, 28))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/hostname", "is not an http, https or data URL"),
        ("http://127.0.0.1/a.png", "accepts no images from"),
        ("data:image/png;base64,AAAA", "is not a PNG"),
        (photo((280, 56))[:-40], "damaged"),
    ],
)
async def test_refusals_are_value_errors_which_vllm_answers_400(
    connector: Any, url: str, reason: str
) -> None:
    with pytest.raises(MediaError, match=reason) as error:
        await connector.fetch_image_async(url)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("media", ["video", "audio"])
async def test_other_media_come_by_the_same_fetcher(connector: Any, media: str) -> None:
    with pytest.raises(MediaError, match="is not an http, https or data URL"):
        await getattr(connector, f"fetch_{media}_async")("file:///etc/hostname")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "http://127.0.0.1/", photo((8, 8))])
def test_the_tokenizer_loads_no_image_by_itself(url: str) -> None:
    with pytest.raises(ValueError, match="no URL to load it from"):
        encode(url)


def test_the_tokenizer_still_takes_an_image_that_it_is_given() -> None:
    image = Image.new("RGB", (28, 28))
    assert mistral_image.image_from_chunk(ImageChunk(image=image)) is image


class Renderer(ChatRenderer):
    """A renderer with vLLM's two steps, loading and tokenizing, for a request of one URL."""

    def __init__(self) -> None:
        self._executor = None
        self._chat_tokenizer = None
        self._apply_chat_template_async = self._apply_in_context


@pytest.mark.parametrize("sync", [True, False])
async def test_the_tokens_are_those_of_the_image_as_vllm_shows_it(
    connector: Any, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    """A photo taken upright is tokenized in its rotated size."""

    def render(self: Any, url: str, params: Any) -> Any:
        connector.fetch_image(url)
        return [], {"prompt_token_ids": encode(url)}

    async def render_async(self: Any, url: str, params: Any) -> Any:
        await asyncio.gather(connector.fetch_image_async(url))
        return [], {"prompt_token_ids": await self._apply_chat_template_async(None, url)}

    monkeypatch.setattr(vllm_mistral.MistralRenderer, "render_messages", render)
    monkeypatch.setattr(vllm_mistral.MistralRenderer, "render_messages_async", render_async)
    monkeypatch.setattr(chat_renderer, "safe_apply_chat_template", lambda _, url: encode(url))
    url, params = photo((280, 56), TURNED), SimpleNamespace()
    if sync:
        _, prompt = await asyncio.to_thread(Renderer().render_messages, url, params)
    else:
        _, prompt = await Renderer().render_messages_async(url, params)
    assert len(prompt["prompt_token_ids"]) == 10 * (2 + 1)
    with pytest.raises(ValueError, match="no URL to load it from"):
        encode(url)  # the request has ended


@pytest.mark.parametrize("sync", [True, False])
async def test_vllm_caches_no_image_by_a_key_of_the_client(
    monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    """vLLM takes such a key in place of the image's pixels and its cache salt."""
    prompt = {"prompt_token_ids": [1], "multi_modal_data": {"image": [1]}}

    def render(self: Any, messages: Any, params: Any) -> Any:
        return [], prompt | {"multi_modal_uuids": {"image": ["another tenant's"]}}

    async def render_async(self: Any, messages: Any, params: Any) -> Any:
        return render(self, messages, params)

    monkeypatch.setattr(vllm_mistral.MistralRenderer, "render_messages", render)
    monkeypatch.setattr(vllm_mistral.MistralRenderer, "render_messages_async", render_async)
    renderer = Renderer()
    if sync:
        assert renderer.render_messages([], None) == ([], prompt)
    else:
        assert await renderer.render_messages_async([], None) == ([], prompt)


def test_vllm_has_the_keys_of_images_where_the_renderer_drops_them() -> None:
    for render in ("render_messages", "render_messages_async"):
        source = inspect.getsource(getattr(vllm_mistral.MistralRenderer, render))
        assert 'prompt["multi_modal_uuids"] = mm_uuids' in source


async def test_a_requests_images_are_held_until_it_is_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = HeldPixels(100)

    async def render(self: Any, take: int) -> str:
        await asyncio.create_task(held.take(take))
        return "prompt"

    monkeypatch.setattr(chat_renderer, "HELD_PIXELS", held)
    monkeypatch.setattr(vllm_mistral.MistralRenderer, "render_chat_async", render)
    assert await Renderer().render_chat_async(100) == "prompt"
    with pytest.raises(MediaError, match="more than 100 pixels together"):
        await Renderer().render_chat_async(101)


def test_vllm_loads_and_processes_images_in_the_step_that_holds_them() -> None:
    source = inspect.getsource(vllm_mistral.MistralRenderer.render_chat_async)
    assert "self.render_messages_async(" in source
    assert "self.process_for_engine_async(" in source


def test_vllm_renders_a_chat_in_the_two_steps_that_the_renderer_counts_on() -> None:
    names = vllm_mistral.MistralRenderer.render_messages_async.__code__.co_names
    assert {"parse_chat_messages_async", "_apply_chat_template_async"} <= set(names)
    names = vllm_mistral.MistralRenderer.render_messages.__code__.co_names
    assert {"parse_chat_messages", "safe_apply_chat_template"} <= set(names)

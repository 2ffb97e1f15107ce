"""Renders chats for vLLM, with the images that it has loaded."""

import asyncio
from contextvars import copy_context
from functools import partial
from typing import Any

from vllm.renderers.mistral import MistralRenderer, safe_apply_chat_template

from serving.engine.media import HELD_PIXELS
from serving.engine.vllm.chat_tokenizer import chat_tokenizer
from serving.engine.vllm.image_connector import images_kept


class ChatRenderer(MistralRenderer):  # type: ignore[misc]
    """Gives the tokenizer of chats, which repeats no work, the images that vLLM has loaded.

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
        with images_kept():
            conversation, prompt = await super().render_messages_async(messages, params)
        return conversation, _without_uuids(prompt)

    def render_messages(self, messages: Any, params: Any) -> Any:
        with images_kept():
            conversation, prompt = super().render_messages(messages, params)
        return conversation, _without_uuids(prompt)

    async def _apply_in_context(self, _: Any, messages: Any, **kwargs: Any) -> Any:
        apply = partial(safe_apply_chat_template, self._chat_tokenizer, messages, **kwargs)
        run = partial(copy_context().run, apply)
        return await asyncio.get_running_loop().run_in_executor(self._executor, run)


def _without_uuids(prompt: dict[str, Any]) -> dict[str, Any]:
    """Returns the prompt without the keys by which vLLM would find a client's images in its caches,
    whatever their pixels and their cache salt are."""
    return {name: value for name, value in prompt.items() if name != "multi_modal_uuids"}

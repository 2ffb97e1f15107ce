"""Makes the engine's inputs of prompts, with vLLM's renderer."""

import datetime
from collections.abc import Sequence
from typing import Any

from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.renderers.params import ChatParams, TokenizeParams
from vllm.v1.engine.async_llm import AsyncLLM

from serving.engine.vllm.cache_salt import salted
from serving.engine.vllm.model import Model
from serving.engine.vllm.prompt_errors import prompt_errors
from serving.engine.vllm.public_prefixes import salted_after
from serving.mistral.rules import InvalidRequest
from serving.mistral.system_prompt import is_public
from serving.requests.request import Chat, JsonObject, Prompt, Request

EngineInput = Any
"""vLLM's type of the same name."""


class Renderer:
    """Makes the engine's inputs. Its methods raise what `failure_of` reads."""

    def __init__(self, engine: AsyncLLM, model: Model) -> None:
        self._renderer = engine.renderer
        self._model_config = engine.model_config
        self._image_token = model.vocabulary.image
        self._last_token = len(model.vocabulary.pieces) - 1
        self._end_system_token = model.vocabulary.end_system
        self._rules = model.rules

    async def render(self, request: Request) -> list[EngineInput]:
        """Returns one input for each prompt of the request; loads and checks images."""
        params = self._tokenize_params(request)
        salt = request.cache_salt
        if isinstance(request.prompt, Chat):
            inputs = [await self._chat(request.prompt, params, salt)]
        else:
            inputs = await self._completion(request.prompt, params)
        if salt is not None:
            for rendered in inputs:
                public_tokens = 0
                # What an adapter makes of a public prompt differs from what others do.
                if self._rules.public_system_prompts and request.adapter is None:
                    public_tokens = self._public_tokens(request, rendered["prompt_token_ids"])
                rendered["cache_salt"] = salted_after(public_tokens, salt)
        return inputs

    def _public_tokens(self, request: Request, token_ids: list[int]) -> int:
        """Returns the number of tokens with which a prompt begins that are no secret."""
        if not isinstance(request.prompt, Chat) or request.truncate_prompt_tokens is not None:
            return 0
        first = request.prompt.messages[0]
        content = first.get("content")
        if isinstance(content, list) and len(content) == 1:
            content = content[0].get("text")
        if (
            first.get("role") != "system"
            or not isinstance(content, str)
            or not is_public(content, self._rules, datetime.date.today())
        ):
            return 0
        assert self._end_system_token is not None  # every version that serving/mistral knows has it
        return token_ids.index(self._end_system_token) + 1

    async def _completion(
        self, prompts: Sequence[Prompt], params: TokenizeParams
    ) -> list[EngineInput]:
        if any(type(prompt) is list and self._image_token in prompt for prompt in prompts):
            raise InvalidRequest(
                "prompt must not have tokens of images: completions take none.", param="prompt"
            )
        if any(type(prompt) is list and max(prompt) > self._last_token for prompt in prompts):
            raise InvalidRequest(
                f"prompt must not have token ids above {self._last_token}, this model's last.",
                param="prompt",
            )
        return await self._texts(prompts, params)

    async def chat_token_ids(self, chat: Chat, salt: str | None) -> list[int]:
        """Returns a chat's prompt, however long it is. `salt` is that of its images."""
        params = TokenizeParams(max_total_tokens=None, add_special_tokens=False)
        return list((await self._chat(chat, params, salt))["prompt_token_ids"])

    async def token_ids(self, prompt: Prompt, add_special_tokens: bool) -> list[int]:
        """Returns the tokens of a text, however long it is."""
        params = TokenizeParams(max_total_tokens=None, add_special_tokens=add_special_tokens)
        (rendered,) = await self._texts([prompt], params)
        return list(rendered["prompt_token_ids"])

    async def _chat(self, chat: Chat, params: TokenizeParams, salt: str | None) -> EngineInput:
        template: JsonObject = {
            "tools": chat.tools or None,
            "tokenize": True,
            "add_generation_prompt": not chat.continue_final_message,
            "continue_final_message": chat.continue_final_message,
        }
        try:
            with prompt_errors(chat), salted(salt):
                _, (rendered,) = await self._renderer.render_chat_async(
                    [chat.messages],
                    ChatParams(
                        chat_template_content_format="string", chat_template_kwargs=template
                    ),
                    params,
                )
            if "mm_placeholders" in rendered:
                self._check_images(rendered)
        except RuntimeError as error:
            if params.truncate_prompt_tokens is None or not chat.has_images:
                raise
            raise InvalidRequest(
                "truncate_prompt_tokens would cut into the images of this request. Send fewer of "
                "them, or a larger value.",
                param="truncate_prompt_tokens",
            ) from error
        return rendered

    def _check_images(self, rendered: EngineInput) -> None:
        """Raises RuntimeError for image tokens without an image, which vLLM takes for text. It
        raises the same itself for an image without its tokens."""
        places = rendered["mm_placeholders"].get("image", ())
        expected = sum(place.get_num_embeds() for place in places)
        found = rendered["prompt_token_ids"].count(self._image_token)
        if found != expected:
            raise RuntimeError(f"a prompt has {found} image tokens for {expected} of its images")

    async def _texts(self, prompts: Sequence[Prompt], params: TokenizeParams) -> list[EngineInput]:
        with prompt_errors():
            parsed = [parse_model_prompt(self._model_config, prompt) for prompt in prompts]
            inputs: list[EngineInput] = await self._renderer.render_cmpl_async(parsed, params)
        return inputs

    def _tokenize_params(self, request: Request) -> TokenizeParams:
        return TokenizeParams(
            max_total_tokens=self._model_config.max_model_len,
            max_output_tokens=request.max_tokens or 1,
            truncate_prompt_tokens=request.truncate_prompt_tokens,
            truncation_side=request.truncation_side,
            add_special_tokens=not isinstance(request.prompt, Chat) and request.add_special_tokens,
            max_total_tokens_param="max_model_len",
            max_output_tokens_param="max_tokens",
        )

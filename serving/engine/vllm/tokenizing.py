"""The endpoints that turn prompts into tokens, and tokens into text, without an answer."""

import datetime
from typing import Any

from starlette.types import Receive, Scope, Send
from vllm.tokenizers.mistral import MistralTokenizer

from serving.encoders.sse import to_json
from serving.engine.exchange import (
    adapter_of,
    cache_salt_of,
    image_errors,
    read_body,
    rewrite_headers,
    send_whole,
)
from serving.engine.vllm.model import Model
from serving.engine.vllm.rendering import Renderer
from serving.mistral import InvalidRequest
from serving.requests import messages, responses, tokenize
from serving.requests.request import Chat

_COUNTS: dict[str, tuple[Any, dict[str, str]]] = {
    messages.COUNT_PATH: (messages.read_count, {}),
    responses.COUNT_PATH: (responses.read_count, {"object": "response.input_tokens"}),
}
"""The reader of each API's request for a count, and what else the answer has."""


class Tokenizing:
    """Answers with a model's tokens, of prompts as they would be generated from."""

    def __init__(self, tokenizer: MistralTokenizer, renderer: Renderer, model: Model) -> None:
        self._tokenizer = tokenizer
        self._renderer = renderer
        self._model = model

    async def tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        request = tokenize.read(body, self._model.rules, datetime.date.today())
        self._model.check_name(request.model, adapter_of(scope))
        if isinstance(request.prompt, Chat):
            with image_errors(body):
                tokens = await self._renderer.chat_token_ids(request.prompt, cache_salt_of(scope))
        else:
            tokens = await self._renderer.token_ids(request.prompt, request.add_special_tokens)
        names = None
        if request.return_token_strs:
            names = [self._model.vocabulary.text_of(token) for token in tokens]
        result = {
            "count": len(tokens),
            "max_model_len": self._model.max_model_len,
            "tokens": tokens,
            "token_strs": names,
        }
        await send_whole(send, 200, to_json(result), rewrite_headers(request.normalised))

    async def detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = tokenize.read_tokens(await read_body(receive))
        self._model.check_name(request.model, adapter_of(scope))
        tokens, last = request.tokens, len(self._model.vocabulary.pieces) - 1
        if any(not 0 <= token <= last for token in tokens):
            raise InvalidRequest(f"tokens must be between 0 and {last}.", param="tokens")
        text = self._tokenizer.decode(tokens, skip_special_tokens=False)
        await send_whole(send, 200, to_json({"prompt": text}))

    async def count(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with the number of a prompt's tokens, in the form of the path's API."""
        body = await read_body(receive)
        read, form = _COUNTS[scope["path"]]
        name, conversation, normalised = read(body, self._model.rules, datetime.date.today())
        self._model.check_name(name, adapter_of(scope))
        with image_errors(body):
            tokens = await self._renderer.chat_token_ids(conversation, cache_salt_of(scope))
        await send_whole(
            send, 200, to_json({**form, "input_tokens": len(tokens)}), rewrite_headers(normalised)
        )

"""The engine's HTTP application: four APIs over vLLM's AsyncLLM."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Receive, Scope, Send
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.prometheus import get_prometheus_registry

from serving.adapters.adapter import Version
from serving.adapters.files import AdapterError
from serving.answers.vocabulary import of_tekken
from serving.asgi import ClientGoneError, send_response
from serving.catalogue import LoopGuard
from serving.encoders.sse import to_json
from serving.engine.adapters import Adapters, NoAdapterError
from serving.engine.apis import APIS
from serving.engine.exchange import read_body, send_whole
from serving.engine.vllm.answering import Answering
from serving.engine.vllm.failures import Failure, failure_of
from serving.engine.vllm.model import Model
from serving.engine.vllm.rendering import Renderer
from serving.engine.vllm.tokenizing import Tokenizing
from serving.engine_protocol import (
    ADAPTERS_PATH,
    NO_ADAPTER,
    UNAVAILABLE,
    USAGE_PATH,
    NotLoaded,
)
from serving.mistral import ModelRules
from serving.mistral.anthropic_error import anthropic_error
from serving.requests import messages, responses, tokenize

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class FrontEnd:
    """An ASGI application that has requests answered, and tells clients of what fails.

    Requests that the engine's death ends raise EngineDeathError, later ones what the engine raises.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        names: Sequence[str],
        rules: ModelRules,
        loop_guard: LoopGuard | None,
        resumes_exactly: bool = False,
        advances_grammars: bool = False,
        adapters: Adapters[LoRARequest] | None = None,
    ) -> None:
        """`names`, `resumes_exactly` and `advances_grammars` are those of `Model`. Without
        `adapters` the engine takes none."""
        self._engine = engine
        self._created = int(time.time())
        self._registry = get_prometheus_registry()
        tokenizer = engine.get_tokenizer()
        model = self._model = Model(
            names,
            replace(rules, sampling=engine.model_config.get_diff_sampling_param()),
            of_tekken(tokenizer.tokenizer),
            engine.model_config.max_model_len,
            resumes_exactly,
            advances_grammars,
        )
        renderer = Renderer(engine, model)
        answering = Answering(engine, model, renderer, loop_guard, adapters)
        self.close = answering.close
        self.last_steps = answering.last_steps
        self.usage = answering.usage
        tokenizing = Tokenizing(tokenizer, renderer, model)
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("GET", USAGE_PATH): self._usage,
            ("POST", tokenize.PATH): tokenizing.tokenize,
            ("POST", "/detokenize"): tokenizing.detokenize,
            ("POST", messages.COUNT_PATH): tokenizing.count,
            ("POST", responses.COUNT_PATH): tokenizing.count,
            **{("POST", path): answering for path in APIS},
        }
        if adapters is not None:
            self._handlers |= {
                ("GET", ADAPTERS_PATH): partial(self._tell_adapters, adapters),
                ("POST", ADAPTERS_PATH): partial(self._load_adapter, adapters),
            }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        handler = self._handlers.get((scope["method"], path))
        if handler is None:
            await _fail(send, path, Failure(404, f"There is no {scope['method']} {path}."))
            return
        try:
            await handler(scope, receive, send)
        except ClientGoneError:
            return
        except NoAdapterError:
            headers = [(UNAVAILABLE, NO_ADAPTER), (b"content-length", b"0")]
            await send_response(send, 503, headers, b"")
        except Exception as error:
            if self._engine.errored:
                raise
            await _fail(send, path, failure_of(error))

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._engine.check_health()
        await send_whole(send, 200, b"")

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await asyncio.to_thread(generate_latest, self._registry)
        await send_whole(send, 200, body, content_type=CONTENT_TYPE_LATEST.encode())

    async def _usage(self, scope: Scope, receive: Receive, send: Send) -> None:
        report = self.usage.report(scope["query_string"])
        await send_whole(send, 200, msgspec.json.encode(report))

    async def _tell_adapters(
        self, adapters: Adapters[LoRARequest], scope: Scope, receive: Receive, send: Send
    ) -> None:
        await send_whole(send, 200, msgspec.json.encode(adapters.report()))

    async def _load_adapter(
        self, adapters: Adapters[LoRARequest], scope: Scope, receive: Receive, send: Send
    ) -> None:
        version = msgspec.json.decode(await read_body(receive), type=Version)
        try:
            await adapters.load(version)
        except AdapterError as error:
            await send_whole(send, 422, msgspec.json.encode(NotLoaded(str(error))))
        else:
            await self._tell_adapters(adapters, scope, receive, send)

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        models = [
            {
                "id": name,
                "object": "model",
                "created": self._created,
                "owned_by": "mistral-serve",
                "max_model_len": self._model.max_model_len,
            }
            for name in self._model.names
        ]
        await send_whole(send, 200, to_json({"object": "list", "data": models}))


async def _fail(send: Send, path: str, failure: Failure) -> None:
    if path.startswith(messages.PATH):
        error = anthropic_error(failure.message, failure.status)
    else:
        error = failure.openai()
    await send_whole(send, failure.status, to_json(error))

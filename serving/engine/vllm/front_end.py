"""The engine's HTTP application: four APIs over vLLM's AsyncLLM."""

import asyncio
import datetime
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from zlib import crc32

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from starlette.types import Receive, Scope, Send
from vllm.exceptions import VLLMNotFoundError
from vllm.lora.request import LoRARequest
from vllm.sampling_params import StructuredOutputsParams
from vllm.tracing import extract_trace_headers
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.prometheus import get_prometheus_registry

from serving.adapters.adapter import Version
from serving.adapters.files import AdapterError
from serving.answers.events import Answer, Arguments, End, Event, Reasoning, Step, Text, Usage
from serving.answers.loop_guard import STOP_REASON, LoopDetector
from serving.answers.parser import AnswerParser
from serving.answers.vocabulary import of_tekken
from serving.asgi import ClientGoneError, Headers, disconnected, send_response
from serving.catalogue import LoopGuard
from serving.encoders.chat import ChatEncoder
from serving.encoders.completions import CompletionEncoder
from serving.encoders.encoder import Encoder
from serving.encoders.errors import anthropic_error
from serving.encoders.messages import MessagesEncoder
from serving.encoders.responses import ResponsesEncoder
from serving.encoders.sse import to_json
from serving.engine.grammar_check import GrammarCheck
from serving.engine.last_steps import LastSteps
from serving.engine.resumption import Continuation
from serving.engine.usage_journal import Meter, UsageJournal
from serving.engine.vllm import constraints
from serving.engine.vllm.adapters import Adapters, NoAdapterError
from serving.engine.vllm.failures import (
    AbandonedError,
    ConstraintError,
    Failure,
    failure_of,
)
from serving.engine.vllm.generation import Generation, Model
from serving.engine.vllm.rendering import EngineInput, Renderer, has_images
from serving.engine.vllm.stream import Stream, counts, tell_of_prompt
from serving.engine_protocol import (
    ADAPTER,
    ADAPTERS_PATH,
    CACHE_SALT,
    NO_ADAPTER,
    RESUMPTION,
    REWRITES,
    UNAVAILABLE,
    USAGE_ID,
    USAGE_PATH,
    NotLoaded,
)
from serving.mistral import InvalidRequest, ModelRules, Normalised
from serving.requests import chat, completions, messages, responses, tokenize
from serving.requests.chat import ChatOptions
from serving.requests.request import Chat, Request

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOP_STOPS = Counter(
    "mistral_serve_loop_stops",
    "Answers stopped because they repeated themselves endlessly.",
    ["model_name"],
)
"""Registered in the default registry, which /metrics exposes."""

_NONE: Headers = []

_MISTRALS_CLIENTS = b"mistral-client-"
"""The beginning of the User-Agent of Mistral's own clients, which fail on parts of calls."""


@dataclass(frozen=True, slots=True)
class Api:
    """How an API's requests are read and its answers written."""

    read: Callable[[bytes, ModelRules, datetime.date], tuple[Request, Any]]
    encoder: Callable[..., Encoder]
    id_prefix: str
    told_by: Collection[type[Event]] = (Text, Reasoning, Arguments)
    """The answer's events whose text the API's own events have unchanged."""


APIS: Mapping[str, Api] = {
    chat.PATH: Api(chat.read, ChatEncoder, "chatcmpl-"),
    completions.PATH: Api(completions.read, CompletionEncoder, "cmpl-", (Text,)),
    responses.PATH: Api(responses.read, ResponsesEncoder, "resp_", (Text,)),
    messages.PATH: Api(messages.read, MessagesEncoder, "msg_"),
}


class FrontEnd:
    """An ASGI application that answers requests of all APIs.

    A response's head is sent with its first tokens, so that a request that fails before them gets
    the status of its error, and the head the counts of its prompt's tokens. A stream that begins
    before the engine has read all of several prompts has no counts in its head.

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
        adapters: Adapters | None = None,
    ) -> None:
        """`names` are those by which requests know the model; answers have the first, or the name
        of an adapter. Without `adapters` the engine takes none.
        `resumes_exactly` is whether the engine goes on behind another's tokens as if they were its
        own, rather than as a part of the prompt; `advances_grammars` whether its grammars read them
        in either case."""
        self._engine = engine
        self._names = names
        self._rules = rules
        self._loop_guard = loop_guard
        self._adapters = adapters
        self.last_steps = LastSteps()
        self._grammars = GrammarCheck()
        self.usage = UsageJournal()
        self._created = int(time.time())
        self._tokenizer = engine.get_tokenizer()
        self._vocabulary = of_tekken(self._tokenizer.tokenizer)
        self._renderer = Renderer(engine, self._vocabulary, rules)
        self._model = Model(
            self._vocabulary,
            engine.model_config.max_model_len,
            engine.model_config.get_diff_sampling_param(),
            resumes_exactly,
            advances_grammars,
        )
        self._vocabulary_digest = crc32(repr(self._vocabulary.pieces).encode())
        LOOP_STOPS.labels(names[0])  # exposes 0 before the first stop
        self._registry = get_prometheus_registry()
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("GET", USAGE_PATH): self._usage,
            ("POST", tokenize.PATH): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("POST", messages.COUNT_PATH): self._count_tokens,
            **{("POST", path): self._generate for path in APIS},
        }
        if adapters is not None:
            self._handlers |= {
                ("GET", ADAPTERS_PATH): partial(self._tell_adapters, adapters),
                ("POST", ADAPTERS_PATH): partial(self._load_adapter, adapters),
            }

    async def close(self) -> None:
        """Ends the processes that compile grammars."""
        await self._grammars.close()

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

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        with (
            self._running(_adapter(scope)) as lora,
            self.usage.meter(_header(scope, USAGE_ID)) as meter,
        ):
            await self._generate_metered(meter, lora, scope, receive, send)

    async def _generate_metered(
        self,
        meter: Meter,
        lora: LoRARequest | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        api = APIS[scope["path"]]
        continuation = Continuation.of(
            _header(scope, RESUMPTION), await _body(receive), self._vocabulary_digest
        )
        mark = continuation.mark
        request, options = api.read(continuation.request, self._rules, mark.date)
        self._check_model(request.model, scope)
        request.cache_salt = _cache_salt(scope, request.cache_salt)
        request.adapter = _adapter(scope)
        if isinstance(options, ChatOptions):
            whole_calls = _header(scope, b"user-agent").startswith(_MISTRALS_CLIENTS)
            options = replace(options, whole_calls=whole_calls)
        constraint = constraints.structured_outputs(request, self._vocabulary)
        if continuation.wanted:
            continuation.allow(self._not_resumable(scope["path"], request, constraint))
        answering = asyncio.current_task()
        assert answering is not None
        watch = asyncio.create_task(_cancel_when_gone(receive, answering))
        try:
            try:
                await self._respond(
                    api, request, options, continuation, constraint, meter, lora, scope, send
                )
            except (AbandonedError, ConstraintError):
                # After a request that failed between its rendering and the engine, vLLM takes its
                # images for known to the engine. The next request with one fails, which tells vLLM.
                if self._engine.errored or not has_images(request):
                    raise
                await self._respond(
                    api, request, options, continuation, constraint, meter, lora, scope, send
                )
        except asyncio.CancelledError:
            if watch.done() and not watch.cancelled():
                answering.uncancel()
                raise ClientGoneError from None
            raise
        finally:
            watch.cancel()

    async def _respond(
        self,
        api: Api,
        request: Request,
        options: Any,
        continuation: Continuation,
        constraint: StructuredOutputsParams | None,
        meter: Meter,
        lora: LoRARequest | None,
        scope: Scope,
        send: Send,
    ) -> None:
        """Sends the answer. While the engine lives, what it raises comes before anything is
        sent."""
        inputs = await self._inputs(request, constraint)
        id = api.id_prefix + _request_id(scope)
        usage, mark, choices = Usage(), continuation.mark, itertools.count()
        name = self._names[0] if request.adapter is None else request.model or self._names[0]
        generation = Generation(
            self._engine,
            self._model,
            request,
            [(rendered, self._renderer.prompt_tokens(rendered)) for rendered in inputs],
            id,
            usage,
            constraint,
            lambda: self._parser(request, mark.call_ids(next(choices))),
            await self._trace_headers(scope),
            partial(self.last_steps.prefilled, id),
            lora,
        )
        meter.sources.append(generation.tokens)
        encoder = api.encoder(options, id, mark.created, name, usage)
        with self.last_steps.running(id, lambda: self._engine.errored):
            if request.stream:
                stream = Stream(
                    generation,
                    encoder,
                    continuation,
                    () if request.needs_prompt else api.told_by,
                    [*_changes(request.normalised), *continuation.headers],
                    lambda: self._engine.errored,
                    self._count_loops,
                )
                await stream.send(send)
            else:
                await self._answer(generation, encoder, usage, send)

    async def _inputs(
        self, request: Request, constraint: StructuredOutputsParams | None
    ) -> list[EngineInput]:
        """Renders the request, and checks its grammar at the same time."""
        if constraint is None:
            return await self._renderer.render(request)
        check = constraints.check(constraint, self._grammars, request.cache_salt)
        if has_images(request):  # which vLLM takes for known to the engine once they are rendered
            await check
            return await self._renderer.render(request)
        inputs, verdict = await asyncio.gather(
            self._renderer.render(request), check, return_exceptions=True
        )
        if isinstance(verdict, BaseException):  # first, so that it does not depend on the time
            raise verdict
        if isinstance(inputs, BaseException):
            raise inputs
        return inputs

    async def _answer(
        self,
        generation: Generation,
        encoder: Encoder,
        usage: Usage,
        send: Send,
    ) -> None:
        answers: list[list[Step]] = [[] for _ in range(generation.choices)]
        async with aclosing(generation.steps()) as steps:
            async for index, step, _ in steps:
                answers[index].append(step)
                if step.end is not None:
                    self._count_loops(step.end)
        for index in range(generation.choices):
            tell_of_prompt(index, generation, encoder)
        body = encoder.whole([Answer.of(steps) for steps in answers])
        changes = _changes(generation.request.normalised)
        await _send(send, 200, body, [*counts(usage), *changes])

    def _not_resumable(
        self, path: str, request: Request, constraint: StructuredOutputsParams | None
    ) -> str:
        """Returns why a broken stream of the answer cannot go on at another engine; empty if it
        can."""
        sampling = request.sampling
        if path == responses.PATH and sampling.logprobs is not None:
            return "responses with logprobs cannot be continued: their last event repeats them all"
        if request.n > 1 and sampling.prompt_logprobs is not None:
            return "answers with n and logprobs of the prompt cannot be continued"
        if self._model.resumes_exactly:
            return ""
        if constraint is not None and not self._model.advances_grammars:
            return "this engine cannot continue an answer that follows a grammar, as with tools"
        penalties = "frequency_penalty", "presence_penalty"
        defaults = self._model.sampling
        if any(getattr(sampling, name) or defaults.get(name) for name in penalties):
            return "this engine cannot continue an answer with penalties"
        return ""

    def _parser(self, request: Request, call_id: Callable[[], str]) -> AnswerParser:
        sampling = request.sampling
        guarded = not sampling.ignore_eos and sampling.repetition_detection is None
        detector = None
        if self._loop_guard is not None and guarded:
            detector = LoopDetector(self._loop_guard, self._vocabulary.text_of)
        return AnswerParser(
            self._vocabulary,
            call_id,
            tools=bool(request.tools.callable),
            stop=request.stop,
            include_stop_str=request.include_stop_str_in_output,
            skip_special_tokens=request.skip_special_tokens,
            min_tokens=sampling.min_tokens,
            stop_token_ids=sampling.stop_token_ids or (),
            loop_guard=detector,
            want_logprobs=sampling.logprobs is not None,
            want_token_ids=request.return_token_ids,
        )

    def _count_loops(self, end: End) -> None:
        if end.stop == STOP_REASON:
            LOOP_STOPS.labels(self._names[0]).inc()

    def _running(self, digest: str | None) -> AbstractContextManager[LoRARequest | None]:
        """Keeps the adapter of a request, if it has one. Raises NoAdapterError."""
        if digest is None:
            return nullcontext()
        if self._adapters is None:
            raise NoAdapterError(digest)
        return self._adapters.running(digest)

    def _check_model(self, name: str | None, scope: Scope) -> None:
        """Raises VLLMNotFoundError for a model that this engine has not. An adapter is known by its
        digest alone, as routers know what its name means."""
        if name is not None and name not in self._names and _adapter(scope) is None:
            raise VLLMNotFoundError(
                f"The model '{name[:200]}' does not exist. Available models: {self._names[0]}."
            )

    async def _trace_headers(self, scope: Scope) -> Mapping[str, str] | None:
        if not await self._engine.is_tracing_enabled():
            return None
        headers = {
            name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]
        }
        trace: Mapping[str, str] | None = extract_trace_headers(headers)
        return trace

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._engine.check_health()
        await _send(send, 200, b"")

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await asyncio.to_thread(generate_latest, self._registry)
        await _send(send, 200, body, content_type=CONTENT_TYPE_LATEST.encode())

    async def _usage(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, 200, msgspec.json.encode(self.usage.report(scope["query_string"])))

    async def _tell_adapters(
        self, adapters: Adapters, scope: Scope, receive: Receive, send: Send
    ) -> None:
        await _send(send, 200, msgspec.json.encode(adapters.report()))

    async def _load_adapter(
        self, adapters: Adapters, scope: Scope, receive: Receive, send: Send
    ) -> None:
        version = msgspec.json.decode(await _body(receive), type=Version)
        try:
            await adapters.load(version)
        except AdapterError as error:
            await _send(send, 422, msgspec.json.encode(NotLoaded(str(error))))
        else:
            await self._tell_adapters(adapters, scope, receive, send)

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        models = [
            {
                "id": name,
                "object": "model",
                "created": self._created,
                "owned_by": "mistral-serve",
                "max_model_len": self._model.context_tokens,
            }
            for name in self._names
        ]
        await _send(send, 200, to_json({"object": "list", "data": models}))

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = tokenize.read(await _body(receive), self._rules, datetime.date.today())
        self._check_model(request.model, scope)
        if isinstance(request.prompt, Chat):
            salt = _cache_salt(scope, None)
            tokens = await self._renderer.chat_token_ids(request.prompt, salt)
        else:
            tokens = await self._renderer.token_ids(request.prompt, request.add_special_tokens)
        names = None
        if request.return_token_strs:
            names = [self._vocabulary.text_of(token) for token in tokens]
        result = {
            "count": len(tokens),
            "max_model_len": self._model.context_tokens,
            "tokens": tokens,
            "token_strs": names,
        }
        await _send(send, 200, to_json(result), _changes(request.normalised))

    async def _detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = tokenize.read_tokens(await _body(receive))
        self._check_model(request.model, scope)
        tokens = request.tokens
        if any(not 0 <= token < len(self._vocabulary.pieces) for token in tokens):
            raise InvalidRequest(
                f"tokens must be between 0 and {len(self._vocabulary.pieces) - 1}.",
                param="tokens",
                code="invalid_value",
            )
        text = self._tokenizer.decode(tokens, skip_special_tokens=False)
        await _send(send, 200, to_json({"prompt": text}))

    async def _count_tokens(self, scope: Scope, receive: Receive, send: Send) -> None:
        model, conversation, normalised = messages.read_count(
            await _body(receive), self._rules, datetime.date.today()
        )
        self._check_model(model, scope)
        tokens = await self._renderer.chat_token_ids(conversation, _cache_salt(scope, None))
        await _send(send, 200, to_json({"input_tokens": len(tokens)}), _changes(normalised))


async def _cancel_when_gone(receive: Receive, answering: asyncio.Task[Any]) -> None:
    await disconnected(receive)
    answering.cancel()


async def _body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def _adapter(scope: Scope) -> str | None:
    return _header(scope, ADAPTER).decode("latin1") or None


def _cache_salt(scope: Scope, own: str | None) -> str | None:
    """Returns the tenant's salt, of one length for all, and behind it the request's own."""
    return _header(scope, CACHE_SALT).decode("latin1") + (own or "") or None


def _request_id(scope: Scope) -> str:
    return _header(scope, b"x-request-id").decode("latin1") or uuid.uuid4().hex


def _changes(normalised: Normalised) -> Headers:
    rewrites = normalised.rewrites
    return [*normalised.headers, (REWRITES, ",".join(rewrites).encode())] if rewrites else _NONE


async def _send(
    send: Send,
    status: int,
    body: bytes,
    headers: Headers = _NONE,
    content_type: bytes = b"application/json",
) -> None:
    own = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send_response(send, status, [*own, *headers], body)


async def _fail(send: Send, path: str, failure: Failure) -> None:
    anthropic = path.startswith(messages.PATH)
    error = anthropic_error(failure.message, failure.status) if anthropic else failure.openai()
    await _send(send, failure.status, to_json(error))

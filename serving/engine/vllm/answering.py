"""Generates the answers to requests of all APIs."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from zlib import crc32

from prometheus_client import Counter
from starlette.types import Receive, Scope, Send
from vllm.lora.request import LoRARequest
from vllm.sampling_params import StructuredOutputsParams
from vllm.tracing import extract_trace_headers
from vllm.v1.engine.async_llm import AsyncLLM

from serving.answers.events import Answer, End, Step, Usage
from serving.answers.loop_guard import STOP_REASON, LoopDetector
from serving.answers.parser import AnswerParser
from serving.catalogue import LoopGuard
from serving.encoders.encoder import Encoder
from serving.engine.adapters import Adapters, NoAdapterError
from serving.engine.apis import APIS, Api
from serving.engine.exchange import (
    adapter_of,
    cache_salt_of,
    header,
    image_errors,
    read_body,
    request_id_of,
    rewrite_headers,
    send_whole,
    while_connected,
)
from serving.engine.grammar_check import GrammarCheck
from serving.engine.grammar_compiler import Tokens
from serving.engine.last_steps import LastSteps
from serving.engine.resumption import Continuation
from serving.engine.usage_journal import Meter, UsageJournal
from serving.engine.vllm import constraints
from serving.engine.vllm.failures import AbandonedError, ConstraintError
from serving.engine.vllm.generation import Generation
from serving.engine.vllm.model import Model
from serving.engine.vllm.rendering import EngineInput, Renderer
from serving.engine.vllm.sampling_limits import check_limits
from serving.engine.vllm.stream import Stream, count_headers
from serving.engine_protocol import RESUMPTION, USAGE_ID
from serving.requests.exact_constants import refuse_rounded_constants
from serving.requests.request import Request

LOOP_STOPS = Counter(
    "mistral_serve_loop_stops",
    "Answers stopped because they repeated themselves endlessly.",
    ["model_name"],
)
"""Registered in the default registry, which /metrics exposes."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, as it was read."""

    api: Api
    request: Request
    options: Any
    """What the API's encoder needs to know of it."""
    constraint: StructuredOutputsParams | None
    continuation: Continuation


class Answering:
    """Answers requests.

    A response's head is sent with its first tokens, so that a request that fails before them gets
    the status of its error, and the head the counts of its prompt's tokens. A stream that begins
    before the engine has read all of several prompts has no counts in its head.

    Requests that the engine's death ends raise EngineDeathError, later ones what the engine raises.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        model: Model,
        renderer: Renderer,
        loop_guard: LoopGuard | None,
        adapters: Adapters[LoRARequest] | None,
    ) -> None:
        self._engine = engine
        self._tokenizer = engine.get_tokenizer()
        self._model = model
        self._renderer = renderer
        self._loop_guard = loop_guard
        self._adapters = adapters
        words = model.vocabulary
        self._grammars = GrammarCheck(
            Tokens(list(words.control.values()), words.eos, len(words.pieces))
        )
        self._vocabulary_digest = crc32(repr(model.vocabulary.pieces).encode())
        self.last_steps = LastSteps()
        self.usage = UsageJournal()
        LOOP_STOPS.labels(model.names[0])  # exposes 0 before the first stop

    async def close(self) -> None:
        """Ends the processes that compile grammars."""
        await self._grammars.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with (
            self._running(adapter_of(scope)) as lora,
            self.usage.meter(header(scope, USAGE_ID)) as meter,
        ):
            asked = self._read(scope, await read_body(receive))
            with while_connected(receive), image_errors(asked.continuation.request):
                try:
                    await self._respond(asked, meter, lora, scope, send)
                except (AbandonedError, ConstraintError):
                    # After a request that failed between its rendering and the engine, vLLM takes
                    # its images for known to the engine. The next request with one fails, which
                    # tells vLLM.
                    if self._engine.errored or not asked.request.has_images:
                        raise
                    await self._respond(asked, meter, lora, scope, send)

    def _running(self, digest: str | None) -> AbstractContextManager[LoRARequest | None]:
        """Keeps the adapter of a request, if it has one. Raises NoAdapterError."""
        if digest is None:
            return nullcontext()
        if self._adapters is None:
            raise NoAdapterError(digest)
        return self._adapters.running(digest)

    def _read(self, scope: Scope, body: bytes) -> _Asked:
        """Raises what `failure_of` reads."""
        api = APIS[scope["path"]]
        continuation = Continuation.of(header(scope, RESUMPTION), body, self._vocabulary_digest)
        request, options = api.read(continuation.request, self._model.rules, continuation.mark.date)
        request.adapter = adapter_of(scope)
        self._model.check_name(request.model, request.adapter)
        request.cache_salt = cache_salt_of(scope, request.cache_salt)
        options = api.for_client(options, dict(scope["headers"]))
        refuse_rounded_constants(request)
        check_limits(request, self._model.vocabulary, self._tokenizer)
        constraint = constraints.structured_outputs(request, self._model.vocabulary)
        if continuation.wanted:
            continuation.allow(self._not_resumable(api, request, constraint))
        return _Asked(api, request, options, constraint, continuation)

    async def _respond(
        self, asked: _Asked, meter: Meter, lora: LoRARequest | None, scope: Scope, send: Send
    ) -> None:
        """Sends the answer. While the engine lives, what it raises comes before anything is
        sent."""
        api, request, continuation = asked.api, asked.request, asked.continuation
        inputs = await self._inputs(request, asked.constraint)
        id = api.id_prefix + request_id_of(scope)
        mark = continuation.mark
        name = (
            self._model.names[0]
            if request.adapter is None
            else request.model or self._model.names[0]
        )
        usage = Usage()
        encoder = api.encoder(asked.options, id, mark.created, name, usage)
        trace_headers = await self._trace_headers(scope)
        generation = Generation(
            partial(self._engine.generate, lora_request=lora, trace_headers=trace_headers),
            self._model,
            request,
            inputs,
            id,
            asked.constraint,
            [
                self._parser(request, mark.call_ids(index))
                for index in range(len(inputs) * request.n)
            ],
            usage,
            encoder.prompt,
            partial(self.last_steps.prefilled, id),
        )
        meter.sources.append(generation.tokens)
        with self.last_steps.running(id, lambda: self._engine.errored):
            if request.stream:
                stream = Stream(
                    generation,
                    encoder,
                    continuation,
                    [*rewrite_headers(request.normalised), *continuation.headers],
                    lambda: self._engine.errored,
                    self._count_loops,
                )
                await stream.send(send)
            else:
                await self._answer(generation, encoder, send)

    async def _inputs(
        self, request: Request, constraint: StructuredOutputsParams | None
    ) -> list[EngineInput]:
        """Renders the request, and checks its grammar at the same time."""
        if constraint is None:
            return await self._renderer.render(request)
        check = constraints.check(constraint, request, self._model.vocabulary, self._grammars)
        if request.has_images:  # which vLLM takes for known to the engine once they are rendered
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

    async def _answer(self, generation: Generation, encoder: Encoder, send: Send) -> None:
        answers: list[list[Step]] = [[] for _ in range(generation.choices)]
        async with aclosing(generation.steps()) as steps:
            async for index, step, _ in steps:
                answers[index].append(step)
                if step.end is not None:
                    self._count_loops(step.end)
        body = encoder.whole([Answer.of(steps) for steps in answers])
        headers = [
            *count_headers(generation.usage),
            *rewrite_headers(generation.request.normalised),
        ]
        await send_whole(send, 200, body, headers)

    def _not_resumable(
        self, api: Api, request: Request, constraint: StructuredOutputsParams | None
    ) -> str:
        """Returns why a broken stream of the answer cannot go on at another engine; empty if it
        can."""
        sampling = request.sampling
        if api.repeats_logprobs and sampling.logprobs is not None:
            return "responses with logprobs cannot be continued: their last event repeats them all"
        if request.n > 1 and sampling.prompt_logprobs is not None:
            return "answers with n and logprobs of the prompt cannot be continued"
        if self._model.resumes_exactly:
            return ""
        if constraint is not None and not self._model.advances_grammars:
            return "this engine cannot continue an answer that follows a grammar, as with tools"
        penalties = "frequency_penalty", "presence_penalty"
        defaults = self._model.rules.sampling
        if any(getattr(sampling, name) or defaults.get(name) for name in penalties):
            return "this engine cannot continue an answer with penalties"
        return ""

    def _parser(self, request: Request, call_id: Callable[[], str]) -> AnswerParser:
        sampling, vocabulary = request.sampling, self._model.vocabulary
        guarded = not sampling.ignore_eos and sampling.repetition_detection is None
        detector = None
        if self._loop_guard is not None and guarded:
            detector = LoopDetector(self._loop_guard, vocabulary.text_of)
        return AnswerParser(
            vocabulary,
            call_id,
            tools=bool(request.tools.callable),
            stop=request.stop,
            include_stop_str=request.include_stop_str_in_output,
            skip_special_tokens=request.skip_special_tokens,
            min_tokens=sampling.min_tokens,
            stop_token_ids=() if request.has_form else sampling.stop_token_ids or (),
            loop_guard=detector,
            want_logprobs=sampling.logprobs is not None,
            want_token_ids=request.return_token_ids,
        )

    def _count_loops(self, end: End) -> None:
        if end.stop == STOP_REASON:
            LOOP_STOPS.labels(self._model.names[0]).inc()

    async def _trace_headers(self, scope: Scope) -> Mapping[str, str] | None:
        if not await self._engine.is_tracing_enabled():
            return None
        headers = {
            name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]
        }
        trace: Mapping[str, str] | None = extract_trace_headers(headers)
        return trace

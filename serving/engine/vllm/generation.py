"""Generates the answers to one request."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from serving.answers.client_form import ClientForm
from serving.answers.events import End, PromptTokens, Step, TokenLogprob, Usage
from serving.answers.loop_guard import STOP_REASON
from serving.answers.parser import AnswerParser
from serving.answers.vocabulary import Vocabulary
from serving.engine.vllm.constraints import in_conflict
from serving.engine.vllm.failures import AbandonedError, ConstraintError
from serving.engine.vllm.logprobs import LogprobReader, certain
from serving.engine.vllm.model import Model
from serving.engine.vllm.rendering import EngineInput
from serving.engine.vllm.sampling import go_on_behind, sampling_params
from serving.engine_protocol import Delivered
from serving.ledger.tokens import Tokens
from serving.mistral.reasoning import ThinkSplitter
from serving.requests.request import Chat, Request

Output = Any
"""vLLM's CompletionOutput: the tokens that it generated in one step of a choice."""

Steps = AsyncGenerator[tuple[int, Step, Output], None]


class Generation:
    """The answers to one request: `n` to each of its prompts.

    Each answer is a request of its own to the engine, since one that ends at a stop string has to
    end alone; the prefix cache computes their common prompt once.
    """

    def __init__(
        self,
        generate: Callable[..., AsyncGenerator[RequestOutput]],
        model: Model,
        request: Request,
        inputs: Sequence[EngineInput],
        id: str,
        constraint: StructuredOutputsParams | None,
        parsers: Sequence[AnswerParser],
        usage: Usage,
        on_prompt: Callable[[PromptTokens], object],
        on_prefilled: Callable[[], object],
    ) -> None:
        """`generate` is that of vLLM's AsyncLLM. There is one of the `parsers` for each answer.
        `usage` is kept up to date. `on_prompt` is called with each prompt that the answer tells of,
        before a step of its choices, and `on_prefilled` when each prompt has a token of an answer.
        Raises InvalidRequest for a prompt that leaves no context for an answer, and what vLLM
        raises for parameters of sampling that it refuses."""
        self._generate = generate
        self._model = model
        self.request = request
        self._inputs = inputs
        self._id = id
        self.usage = usage
        """What the answers have used so far."""
        self._parsers = parsers
        self._forms = [_client_form(request) for _ in self._parsers]
        self._on_prompt = on_prompt
        self._on_prefilled = on_prefilled
        self._constrained = constraint is not None
        self._logprobs = LogprobReader(model.vocabulary, request)
        self._params = sampling_params(
            request, model, constraint, [len(one["prompt_token_ids"]) for one in inputs]
        )
        self._counts: list[Any] = [None] * len(self._params)
        """What vLLM counts of each choice, which it keeps up to date; None before the first
        token, and without vLLM's statistics."""
        self._read_tokens = 0
        self._unknown = set(range(len(inputs)))
        """The prompts of which the engine has told nothing yet."""
        self._delivered: list[list[int]] = [[] for _ in self._params]
        """The tokens of each choice that another engine generated."""
        self._delivered_tokens: int | None = None
        """How many of the answers' tokens those are; None if this engine began the answers."""

    @property
    def vocabulary(self) -> Vocabulary:
        return self._model.vocabulary

    @property
    def choices(self) -> int:
        return len(self._params)

    @property
    def knows_prompts(self) -> bool:
        """Whether the counts of all prompts are in the usage."""
        return not self._unknown

    def tokens(self) -> Tokens:
        """Returns what the request has used so far."""
        usage = self.usage
        generated = sum(counts.num_generation_tokens for counts in self._counts if counts)
        output = usage.completion_tokens - (self._delivered_tokens or 0)
        return Tokens(
            usage.prompt_tokens,
            usage.cached_tokens,
            output,
            self._read_tokens,
            max(generated, output),
        )

    def replay(
        self, delivered: Iterable[Delivered], cached_tokens: int
    ) -> Iterator[tuple[int, Step]]:
        """Reads tokens that another engine generated, as if this one had, and yields their steps.
        `steps` then goes on behind them; `cached_tokens` are those that the other one had cached.
        Raises LookupError for tokens that the model has not."""
        vocabulary, request = self._model.vocabulary, self.request
        self.usage.prompt_tokens = sum(len(one["prompt_token_ids"]) for one in self._inputs)
        self.usage.cached_tokens = cached_tokens
        self._delivered_tokens = 0
        for one in delivered:
            tokens, index = one.tokens, one.choice
            ids = [vocabulary.ids[tokens]] if isinstance(tokens, str) else tokens
            if not self._delivered[index] and request.needs_prompt:
                self._on_prompt(self._prompt_again(index // request.n))
            self._delivered[index] += ids
            logprobs = None
            if request.sampling.logprobs is not None:  # of which the client has the true values
                logprobs = self._logprobs.answer(ids, certain(ids))
            yield index, self._read(index, ids, logprobs, one.reason, one.stop)
        self._delivered_tokens = self.usage.completion_tokens

    def _prompt_again(self, index: int) -> PromptTokens:
        """Returns a prompt of which the client has been told, without its log-probabilities."""
        ids = list(self._inputs[index]["prompt_token_ids"])
        logprobs = None
        if self.request.sampling.prompt_logprobs is not None:
            logprobs = [None, *certain(ids[1:])]
        return self._logprobs.prompt(index, ids, logprobs)

    def steps(self) -> Steps:
        """Yields each choice's steps as they come. The engine's requests end with the iteration."""
        running = [index for index, parser in enumerate(self._parsers) if not parser.ended]
        return self._steps_of(running[0]) if len(running) == 1 else self._merged(running)

    async def _merged(self, choices: Sequence[int]) -> Steps:
        queue: asyncio.Queue[tuple[int, Step, Output] | Exception | None]
        queue = asyncio.Queue(len(self._params))
        tasks = [asyncio.create_task(self._put_steps_of(index, queue)) for index in choices]
        running = len(tasks)
        try:
            while running:
                item = await queue.get()
                if item is None:
                    running -= 1
                elif isinstance(item, Exception):
                    raise item
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _put_steps_of(
        self, index: int, queue: "asyncio.Queue[tuple[int, Step, Output] | Exception | None]"
    ) -> None:
        try:
            async with aclosing(self._steps_of(index)) as steps:
                async for step in steps:
                    await queue.put(step)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    async def _steps_of(self, index: int) -> Steps:
        parser, begun = self._parsers[index], False
        id = self._id if len(self._params) == 1 else f"{self._id}-{index}"
        outputs = self._generate(*self._asked(index), id, priority=self.request.priority)
        async with aclosing(outputs):
            async for output in outputs:
                if not begun:
                    begun = True
                    self._begin(index, output)
                completion = output.outputs[0]
                reason = completion.finish_reason
                if reason == "error" and self._constrained:
                    raise ConstraintError(*in_conflict(self.request, parser.tokens))
                if reason in ("error", "abort"):
                    raise AbandonedError(f"the engine ended a request: {reason}")
                logprobs = None
                if completion.logprobs is not None:
                    logprobs = self._logprobs.answer(completion.token_ids, completion.logprobs)
                step = self._read(
                    index, completion.token_ids, logprobs, reason, completion.stop_reason
                )
                yield index, step, completion
                if parser.ended and reason is None:
                    return  # which aborts the engine's request

    def _read(
        self,
        index: int,
        token_ids: Sequence[int],
        logprobs: list[TokenLogprob] | None,
        reason: str | None,
        stop: Any,
    ) -> Step:
        """Returns what a choice's next tokens add to it."""
        usage, parser, form = self.usage, self._parsers[index], self._forms[index]
        tokens, thoughts = parser.tokens, parser.reasoning_tokens
        step = parser.feed(token_ids, logprobs)
        if reason is not None and not parser.ended:
            step = _joined(step, _end(parser, reason, stop))
        usage.completion_tokens += parser.tokens - tokens
        usage.reasoning_tokens += parser.reasoning_tokens - thoughts
        return step if form is None else form.step(step)

    def _asked(self, index: int) -> tuple[EngineInput, SamplingParams]:
        """Returns the engine's input and parameters for a choice, behind what was delivered."""
        rendered, params = self._inputs[index // self.request.n], self._params[index]
        if ids := self._delivered[index]:
            go_on_behind(params, ids, self._model)
            if not self._model.resumes_exactly:
                rendered = {**rendered, "prompt_token_ids": [*rendered["prompt_token_ids"], *ids]}
        return rendered, params

    def _begin(self, index: int, output: Any) -> None:
        """Notes what a choice's first output tells."""
        self._counts[index] = output.metrics
        self._read_tokens += len(output.prompt_token_ids)
        if self._model.resumes_exactly:
            self._read_tokens += len(self._delivered[index])
        prompt = index // self.request.n
        if prompt not in self._unknown:
            return
        self._unknown.remove(prompt)
        if not self._delivered[index]:
            self._note_prompt(prompt, output)
        if not self._unknown:
            self._on_prefilled()

    def _note_prompt(self, index: int, output: Any) -> None:
        if self._delivered_tokens is None:
            self.usage.prompt_tokens += len(output.prompt_token_ids)
            self.usage.cached_tokens += output.num_cached_tokens or 0
        if self.request.needs_prompt:
            ids = list(output.prompt_token_ids)
            self._on_prompt(self._logprobs.prompt(index, ids, output.prompt_logprobs))


def _client_form(request: Request) -> ClientForm | None:
    """Returns what puts an answer to the request into its client's form; None if it is that."""
    chat = request.prompt
    if not isinstance(chat, Chat):
        return None
    splitter = None
    if request.normalised.answer.separate_reasoning:
        splitter = ThinkSplitter()
        splitter.skip(chat.begun)
    elif not chat.originals:
        return None
    return ClientForm(chat.originals, splitter)


def _end(parser: AnswerParser, reason: str, stop: int | None) -> Step:
    """Ends an answer that the engine has ended; vLLM's own check of repetition is a loop's end."""
    if reason == "repetition":
        step = parser.finish("length")
        return Step(step.events, end=End("length", STOP_REASON))
    return parser.finish("length" if reason == "length" else "stop", stop)


def _joined(step: Step, end: Step) -> Step:
    return Step(
        [*step.events, *end.events],
        step.logprobs,
        step.token_ids,
        end.end,
    )

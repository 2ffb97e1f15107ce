"""Generates the answers to one request."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from vllm.lora.request import LoRARequest
from vllm.sampling_params import (
    RepetitionDetectionParams,
    RequestOutputKind,
    SamplingParams,
    StructuredOutputsParams,
)
from vllm.v1.engine.async_llm import AsyncLLM

from serving.answers.client_form import ClientForm
from serving.answers.events import End, PromptTokens, Step, TokenLogprob, Usage
from serving.answers.loop_guard import STOP_REASON
from serving.answers.parser import AnswerParser
from serving.answers.vocabulary import Vocabulary
from serving.engine.vllm.constraints import logit_bias
from serving.engine.vllm.failures import AbandonedError, ConstraintError
from serving.engine.vllm.rendering import EngineInput
from serving.ledger.tokens import Tokens
from serving.mistral.reasoning import ThinkSplitter
from serving.mistral.rules import InvalidRequest
from serving.requests.request import Chat, Request

Steps = AsyncGenerator[tuple[int, Step], None]

Logprobs = Sequence[Mapping[int, Any]]
"""vLLM's log-probabilities: for each token of a step those of some tokens, by their ids."""

_ALL = -1
"""Asks for the log-probabilities of all tokens."""

_LEAST = -9999.0
"""Stands for the log-probability of an impossible token, which JSON cannot express."""

_DEFAULTS: Mapping[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
}
"""OpenAI's defaults, for what neither the request nor the model sets."""


@dataclass(frozen=True, slots=True)
class Model:
    """What generation needs to know of the engine's model."""

    vocabulary: Vocabulary
    context_tokens: int
    sampling: Mapping[str, Any]
    """The model's own defaults of sampling."""


class Generation:
    """The answers to one request: `n` to each of its prompts.

    Each answer is a request of its own to the engine, since one that ends at a stop string has to
    end alone; the prefix cache computes their common prompt once.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        model: Model,
        request: Request,
        inputs: Sequence[tuple[EngineInput, int]],
        id: str,
        usage: Usage,
        constraint: StructuredOutputsParams | None,
        parser: Callable[[], AnswerParser],
        trace_headers: Mapping[str, str] | None,
        on_prefilled: Callable[[], object],
        lora_request: LoRARequest | None = None,
    ) -> None:
        """`inputs` have the number of their tokens. `usage` is kept up to date. `on_prefilled` is
        called when each prompt has a token of an answer. `lora_request` is the adapter. Raises
        InvalidRequest for a prompt that leaves no context for an answer, and what vLLM raises for
        parameters of sampling that it refuses."""
        self._engine = engine
        self._model = model
        self.request = request
        self._inputs = inputs
        self._id = id
        self._usage = usage
        self._parsers = [parser() for _ in range(len(inputs) * request.n)]
        self._forms = [_client_form(request) for _ in self._parsers]
        self._trace_headers = trace_headers
        self._on_prefilled = on_prefilled
        self._lora_request = lora_request
        self._common = self._sampling(constraint)
        self._params = [
            self._sampling_params(again, tokens)
            for _, tokens in self._inputs
            for again in range(request.n)
        ]
        self._counts: list[Any] = [None] * len(self._params)
        """What vLLM counts of each choice, which it keeps up to date; None before the first
        token, and without vLLM's statistics."""
        self._read_tokens = 0
        self._unknown = set(range(len(inputs)))
        """The prompts of which the engine has told nothing yet."""
        self._prompts: list[PromptTokens | None] = [None] * len(inputs)

    @property
    def choices(self) -> int:
        return len(self._params)

    @property
    def knows_prompts(self) -> bool:
        """Whether the counts of all prompts are in the usage."""
        return not self._unknown

    def tokens(self) -> Tokens:
        """Returns what the request has used so far."""
        usage = self._usage
        generated = sum(counts.num_generation_tokens for counts in self._counts if counts)
        output = usage.completion_tokens
        return Tokens(
            usage.prompt_tokens,
            usage.cached_tokens,
            output,
            self._read_tokens,
            max(generated, output),
        )

    def take_prompt(self, choice: int) -> PromptTokens | None:
        """Returns the prompt of that choice as the engine was given it, once for each prompt and
        after a step of the choice; None if the answer does not tell of it."""
        index = choice // self.request.n
        prompt, self._prompts[index] = self._prompts[index], None
        return prompt

    def steps(self) -> Steps:
        """Yields each choice's steps as they come. The engine's requests end with the iteration."""
        return self._steps_of(0) if len(self._params) == 1 else self._merged()

    async def _merged(self) -> Steps:
        queue: asyncio.Queue[tuple[int, Step] | Exception | None] = asyncio.Queue(len(self._params))
        tasks = [
            asyncio.create_task(self._put_steps_of(index, queue))
            for index in range(len(self._params))
        ]
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
        self, index: int, queue: "asyncio.Queue[tuple[int, Step] | Exception | None]"
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
        request, usage = self.request, self._usage
        parser, form = self._parsers[index], self._forms[index]
        prompt = index // request.n
        tokens = thoughts = 0
        begun = False
        outputs = self._engine.generate(
            self._inputs[prompt][0],
            self._params[index],
            self._id if len(self._params) == 1 else f"{self._id}-{index}",
            lora_request=self._lora_request,
            trace_headers=self._trace_headers,
            priority=request.priority,
        )
        async with aclosing(outputs):
            async for output in outputs:
                if prompt in self._unknown:
                    self._unknown.remove(prompt)
                    self._note_prompt(prompt, output)
                    if not self._unknown:
                        self._on_prefilled()
                if not begun:
                    begun = True
                    self._counts[index] = output.metrics
                    self._read_tokens += len(output.prompt_token_ids)
                completion = output.outputs[0]
                reason = completion.finish_reason
                if reason == "error" and self._common["structured_outputs"] is not None:
                    raise ConstraintError
                if reason in ("error", "abort"):
                    raise AbandonedError(f"the engine ended a request: {reason}")
                logprobs = None
                if completion.logprobs is not None:
                    logprobs = self._logprobs(completion.token_ids, completion.logprobs)
                step = parser.feed(completion.token_ids, logprobs)
                if reason is not None and not parser.ended:
                    step = _joined(step, _end(parser, reason, completion.stop_reason))
                usage.completion_tokens += parser.tokens - tokens
                usage.reasoning_tokens += parser.reasoning_tokens - thoughts
                tokens, thoughts = parser.tokens, parser.reasoning_tokens
                yield index, step if form is None else form.step(step)
                if parser.ended and reason is None:
                    return  # which aborts the engine's request

    def _note_prompt(self, index: int, output: Any) -> None:
        self._usage.prompt_tokens += len(output.prompt_token_ids)
        self._usage.cached_tokens += output.num_cached_tokens or 0
        if not self.request.needs_prompt:
            return
        ids = list(output.prompt_token_ids)
        vocabulary = self._model.vocabulary
        pieces = [vocabulary.pieces[token_id] for token_id in ids]
        logprobs = None
        if output.prompt_logprobs is not None:
            count = self.request.sampling.prompt_logprobs or 0
            logprobs = [
                None if known is None else self._logprob(token_id, known, count, piece is not None)
                for token_id, known, piece in zip(ids, output.prompt_logprobs, pieces, strict=True)
            ]
        text = b"".join(piece or b"" for piece in pieces).decode("utf-8", "replace")
        first = TokenLogprob(
            ids[0], vocabulary.bytes_of(ids[0]), 0.0, in_text=pieces[0] is not None
        )
        self._prompts[index] = PromptTokens(index, ids, text, first, logprobs)

    def _logprobs(self, token_ids: Sequence[int], logprobs: Logprobs) -> list[TokenLogprob]:
        count = self.request.sampling.logprobs or 0
        left_out = self._model.vocabulary.control if self.request.skip_special_tokens else ()
        return [
            self._logprob(token_id, known, count, token_id not in left_out)
            for token_id, known in zip(token_ids, logprobs, strict=True)
        ]

    def _logprob(
        self, token_id: int, known: Mapping[int, Any], count: int, in_text: bool
    ) -> TokenLogprob:
        top = sorted(
            (value.rank, other)
            for other, value in known.items()
            if count == _ALL or value.rank <= count
        )
        others = tuple(self._token(other, known[other]) for _, other in top)
        return self._token(token_id, known[token_id], others, in_text)

    def _token(
        self,
        token_id: int,
        value: Any,
        top: tuple[TokenLogprob, ...] = (),
        in_text: bool = True,
    ) -> TokenLogprob:
        text = self._model.vocabulary.bytes_of(token_id)
        return TokenLogprob(token_id, text, max(value.logprob, _LEAST), top, value.rank, in_text)

    def _sampling(self, constraint: StructuredOutputsParams | None) -> dict[str, Any]:
        given = self.request.sampling
        values: dict[str, Any] = {
            name: value
            if (value := getattr(given, name)) is not None
            else self._model.sampling.get(name, default)
            for name, default in _DEFAULTS.items()
        }
        detection = given.repetition_detection
        if detection is not None:
            values["repetition_detection"] = RepetitionDetectionParams(
                **msgspec.structs.asdict(detection)
            )
        return values | {
            "stop_token_ids": given.stop_token_ids,
            "ignore_eos": given.ignore_eos,
            "min_tokens": given.min_tokens,
            "logprobs": given.logprobs,
            "prompt_logprobs": given.prompt_logprobs,
            "logit_bias": logit_bias(self.request, self._model.vocabulary),
            "bad_words": given.bad_words,
            "allowed_token_ids": given.allowed_token_ids,
            "extra_args": given.vllm_xargs,
            "structured_outputs": constraint,
            "detokenize": False,
            "output_kind": RequestOutputKind.DELTA,
            "skip_clone": True,
        }

    def _sampling_params(self, again: int, prompt_tokens: int) -> SamplingParams:
        wanted = self.request.max_tokens
        if wanted is None:
            wanted = self._model.sampling.get("max_tokens")
        left = self._model.context_tokens - prompt_tokens
        if left < 1:
            raise InvalidRequest(
                f"This model's maximum context length is {self._model.context_tokens} tokens, and "
                f"the prompt has {prompt_tokens}. Send a shorter one.",
                param="messages" if isinstance(self.request.prompt, Chat) else "prompt",
                code="context_length_exceeded",
            )
        seed = self.request.sampling.seed
        return SamplingParams.from_optional(
            **self._common,
            max_tokens=left if wanted is None else min(wanted, left),
            seed=None if seed is None else seed + again,
        )


def _client_form(request: Request) -> ClientForm | None:
    """Returns what puts an answer to the request into its client's form; None if it is that."""
    chat = request.prompt
    if not isinstance(chat, Chat):
        return None
    splitter = None
    if request.normalised.answer.separate_reasoning:
        splitter = ThinkSplitter()
        text = chat.messages[-1].get("content")
        if chat.continue_final_message and isinstance(text, str):
            splitter.skip(text)
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

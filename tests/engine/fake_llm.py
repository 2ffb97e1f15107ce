"""A stand-in for vLLM's AsyncLLM, with vLLM's tokenizer and types and the answers of a test."""

import asyncio
import functools
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.logprobs import Logprob
from vllm.renderers.mistral import safe_apply_chat_template
from vllm.renderers.params import TokenizeParams
from vllm.tokenizers.mistral import MistralTokenizer
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.serial_utils import MsgpackEncoder

from serving.answers.vocabulary import Vocabulary, of_tekken
from serving.engine.vllm.resumed_requests import RESUMED_IDS
from serving.tiny.spec import TinySpec
from serving.tiny.tokenizer import write_tokenizer

CONTEXT_TOKENS = 200


@functools.cache
def mistral_tokenizer(version: str = "v11") -> Any:
    """Returns vLLM's tokenizer of a small vocabulary."""
    spec = TinySpec(tokenizer_version=version, vocab_tokens=300, special_tokens=100)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(spec, Path(folder))
        return MistralTokenizer.from_pretrained(folder)


@functools.cache
def vocabulary(version: str = "v11") -> Vocabulary:
    return of_tekken(mistral_tokenizer(version).tokenizer)


def control(name: str) -> int:
    """Returns the id of a control token."""
    return int(mistral_tokenizer().tokenizer.get_special_token(name))


def ids(text: str) -> list[int]:
    """Returns the tokens of a text."""
    return list(mistral_tokenizer().encode(text, add_special_tokens=False))


EOS = control("</s>")


@dataclass(slots=True)
class Part:
    """The next tokens of an answer."""

    token_ids: Sequence[int] = ()
    reason: str | None = None
    """Why the answer ends with them, in vLLM's terms."""
    stop: int | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None


def text(content: str) -> list[Part]:
    """Returns the parts of an answer of that text, one token each."""
    return [*(Part([token_id]) for token_id in ids(content)), Part([EOS], "stop")]


WAITS = "waits"
"""Stands for an engine that generates nothing more until the request is aborted."""

Answer = Sequence[Any]
"""Parts, an exception that ends them, or `WAITS`."""


@dataclass
class Call:
    """A request to the engine."""

    prompt: Any
    params: Any
    id: str
    trace_headers: Any
    priority: int
    waits: bool = False
    """Whether it has come to `WAITS`."""
    aborted: bool = False
    lora_request: Any = None


@dataclass
class _Renderer:
    """Renders as vLLM's renderer does: by the tokenizer, with vLLM's checks of lengths."""

    chats: list[Any] = field(default_factory=list)
    error: Exception | None = None

    async def render_chat_async(self, chats: Any, chat: Any, params: TokenizeParams) -> Any:
        if self.error is not None:
            raise self.error
        self.chats.append(chat)
        template = dict(chat.chat_template_kwargs)
        tokens = safe_apply_chat_template(mistral_tokenizer(), chats[0], **template)
        return chats, [_checked(list(tokens), params)]

    async def render_cmpl_async(self, prompts: Any, params: TokenizeParams) -> Any:
        if self.error is not None:
            raise self.error
        return [
            _checked(
                prompt.get("prompt_token_ids")
                or mistral_tokenizer().encode(
                    prompt["prompt"], add_special_tokens=params.add_special_tokens
                ),
                params,
            )
            for prompt in prompts
        ]


def _checked(tokens: list[int], params: TokenizeParams) -> Any:
    prompt: Any = {"prompt_token_ids": tokens}
    return {"type": "token", **params.apply_post_tokenization(mistral_tokenizer(), prompt)}


class FakeLlm:
    """Answers each request with the next of `answers`, and "Hello" after the last."""

    def __init__(self, *answers: Answer, cached_tokens: int | None = 0) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []
        self.errored = False
        self.generated_tokens = 0
        """The tokens that vLLM's metric counts."""
        self.read_tokens = 0
        self.traces = False
        self.sampling: dict[str, Any] = {}
        self.renderer = _Renderer()
        self.model_config: Any = SimpleNamespace(
            max_model_len=CONTEXT_TOKENS,
            is_encoder_decoder=False,
            get_diff_sampling_param=lambda: self.sampling,
        )
        self.adapters: dict[int, Any] = {}
        """What `add_lora` was given and `remove_lora` was not."""
        self.add_error: Exception | None = None
        self._cached_tokens = cached_tokens

    def get_tokenizer(self) -> Any:
        return mistral_tokenizer()

    async def is_tracing_enabled(self) -> bool:
        return self.traces

    async def add_lora(self, request: Any) -> bool:
        if self.add_error is not None:
            raise self.add_error
        self.adapters[request.lora_int_id] = request
        return True

    async def remove_lora(self, id: int) -> bool:
        return self.adapters.pop(id, None) is not None

    async def check_health(self) -> None:
        if self.errored:
            raise EngineDeadError

    async def generate(
        self,
        prompt: Any,
        params: Any,
        id: str,
        *,
        lora_request: Any,
        trace_headers: Mapping[str, str] | None,
        priority: int,
    ) -> AsyncGenerator[Any]:
        number = len(self.calls)
        call = Call(prompt, params, id, trace_headers, priority, lora_request=lora_request)
        self.calls.append(call)
        if max(prompt["prompt_token_ids"]) > mistral_tokenizer().max_token_id:
            raise VLLMValidationError("A token id is out of vocabulary")
        MsgpackEncoder().encode((params, priority))  # as it is sent to the engine's process
        answer = self.answers[number] if number < len(self.answers) else text("Hello")
        counts = SimpleNamespace(num_generation_tokens=0)
        try:
            for part in answer:
                await asyncio.sleep(0)
                if isinstance(part, Part):
                    if not counts.num_generation_tokens:
                        resumed = (params.extra_args or {}).get(RESUMED_IDS, [])
                        self.read_tokens += len(prompt["prompt_token_ids"]) + len(resumed)
                    counts.num_generation_tokens += len(part.token_ids)
                    self.generated_tokens += len(part.token_ids)
                    output = self._output(prompt, part)
                    output.metrics = counts
                    yield output
                elif isinstance(part, Exception):
                    self.errored = isinstance(part, EngineDeadError)
                    raise part
                else:
                    call.waits = True
                    await asyncio.Event().wait()
        except (asyncio.CancelledError, GeneratorExit):
            call.aborted = True
            raise

    def _output(self, prompt: Any, part: Part) -> Any:
        completion = SimpleNamespace(
            token_ids=part.token_ids,
            finish_reason=part.reason,
            stop_reason=part.stop,
            logprobs=part.logprobs,
        )
        return SimpleNamespace(
            outputs=[completion],
            prompt_token_ids=prompt["prompt_token_ids"],
            prompt_logprobs=part.prompt_logprobs,
            num_cached_tokens=self._cached_tokens,
        )

"""The fields that requests to OpenAI's APIs share."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from serving.mistral import InvalidRequest, Normalised
from serving.requests.metadata import METADATA, is_metadata
from serving.requests.output_form import output_form
from serving.requests.request import (
    Chat,
    JsonObject,
    Prompt,
    RepetitionDetection,
    Request,
    Sampling,
    StructuredOutputs,
)

MAX_ANSWERS = 128
"""OpenAI's limit on the answers to a prompt."""
MAX_STOP_STRINGS = 256
"""Each stop string costs time for each token."""

_TOP_LOGPROBS = 20
"""OpenAI's limit on `top_logprobs`."""
_MAX_SALT = 128
_FORBIDDEN_IN_SALT = frozenset("@/\\\0")
_SAME_NAMES = tuple(
    name for name in Sampling.__struct_fields__ if name not in ("logprobs", "prompt_logprobs")
)


class OpenAIBody(msgspec.Struct, kw_only=True):
    """The base of a request's body. Ranges of which vLLM's SamplingParams names the field in its
    error are left to it."""

    model: str | None = None
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    logit_bias: dict[int, float] | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    prompt_logprobs: int | None = None
    repetition_detection: RepetitionDetection | None = None
    vllm_xargs: JsonObject | None = None
    skip_special_tokens: bool = True
    cache_salt: str | None = None
    priority: int = 0

    def request(
        self,
        prompt: Chat | list[Prompt],
        max_tokens: int | None,
        logprobs: int | None,
        normalised: Normalised,
        *,
        prompt_logprobs: int | None = None,
        **fields: Any,
    ) -> Request:
        """Returns the request with these fields of it, after checking the shared ones together.
        `logprobs` is that of `Sampling`; `prompt_logprobs` holds if the field of that name is None.
        Raises InvalidRequest."""
        return Request(
            model=self.model,
            prompt=prompt,
            sampling=self._sampling(max_tokens, logprobs, prompt_logprobs),
            max_tokens=max_tokens,
            stop=stop_strings(self.stop, "stop"),
            include_stop_str_in_output=self.include_stop_str_in_output,
            skip_special_tokens=self.skip_special_tokens,
            cache_salt=self.cache_salt,
            priority=self.priority,
            stream=self.stream,
            normalised=normalised,
            **fields,
        )

    def _sampling(
        self, max_tokens: int | None, logprobs: int | None, prompt_logprobs: int | None
    ) -> Sampling:
        if self.min_tokens < 0 or (max_tokens is not None and self.min_tokens > max_tokens):
            raise InvalidRequest("min_tokens must be between 0 and max_tokens.", "min_tokens")
        check_salt(self.cache_salt)
        check_ranges(self.min_p, self.repetition_penalty)
        if self.prompt_logprobs is not None:
            if self.stream and self.prompt_logprobs != 0:
                raise InvalidRequest("prompt_logprobs are not streamed.", "prompt_logprobs")
            check_logprobs(self.prompt_logprobs, "prompt_logprobs")
            prompt_logprobs = self.prompt_logprobs
        return Sampling(
            **{name: getattr(self, name) for name in _SAME_NAMES},
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
        )


class StreamOptions(msgspec.Struct):
    """OpenAI's settings of a stream."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class CompletionsBody(OpenAIBody, kw_only=True):
    """The base of a body for chat completions and completions."""

    n: int = 1
    truncate_prompt_tokens: int | None = None
    truncation_side: Literal["left", "right"] | None = None
    return_token_ids: bool = False
    stream_options: StreamOptions | None = None
    response_format: JsonObject | None = None
    structured_outputs: StructuredOutputs | None = None

    def request(self, *common: Any, **fields: Any) -> Request:
        check_answers(self.n)
        truncated = self.truncate_prompt_tokens
        if truncated is not None and truncated < 1 and truncated != -1:
            raise InvalidRequest(
                "truncate_prompt_tokens must be at least 1, or -1 for what the context allows.",
                "truncate_prompt_tokens",
            )
        return super().request(
            *common,
            **fields,
            n=self.n,
            truncate_prompt_tokens=self.truncate_prompt_tokens,
            truncation_side=self.truncation_side,
            return_token_ids=self.return_token_ids,
            form=output_form(self.response_format, self.structured_outputs),
        )

    def usage_in_stream(self) -> tuple[bool, bool]:
        """Returns whether the stream ends with its usage, and whether each of its parts has it.
        Raises InvalidRequest."""
        if self.stream_options is None:
            return False, False
        if not self.stream:
            raise InvalidRequest(
                "stream_options is only for streams: set stream.", "stream_options"
            )
        include_usage = self.stream_options.include_usage is True
        return include_usage, include_usage and self.stream_options.continuous_usage_stats is True

    def leaves_usage_open(self) -> bool:
        """Returns whether the request does not say if it wants the usage of its stream."""
        return self.stream_options is None or self.stream_options.include_usage is None


def stop_strings(stop: str | list[str] | None, param: str) -> Sequence[str]:
    """Returns the strings that end an answer. Raises InvalidRequest about the field `param`."""
    strings = [stop] if isinstance(stop, str) else stop or []
    if len(strings) > MAX_STOP_STRINGS:
        raise InvalidRequest(f"{param} must have at most {MAX_STOP_STRINGS} strings.", param)
    if not all(strings):
        raise InvalidRequest(f"{param} must not contain an empty string.", param)
    return strings


def check_answers(n: int) -> None:
    """Raises InvalidRequest unless a request may ask for that many answers to a prompt."""
    if not 1 <= n <= MAX_ANSWERS:
        raise InvalidRequest(f"n must be between 1 and {MAX_ANSWERS}.", "n")


def check_logprobs(count: int, param: str) -> None:
    """Raises InvalidRequest unless `count` is a number of tokens or -1, which is all."""
    if count < -1:
        raise InvalidRequest(f"{param} must be -1 or more.", param)


def check_top_logprobs(count: int | None) -> None:
    """Raises InvalidRequest for a number that OpenAI's APIs do not take."""
    if count is not None and not 0 <= count <= _TOP_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {_TOP_LOGPROBS}.", "top_logprobs")


def check_metadata(value: Any) -> None:
    """Raises InvalidRequest unless `value` is within OpenAI's limits on metadata."""
    if not is_metadata(value):
        raise InvalidRequest(f"metadata must be {METADATA}.", "metadata")


def check_ranges(min_p: float | None, repetition_penalty: float | None) -> None:
    """Raises InvalidRequest for values that vLLM refuses without naming their field."""
    if min_p is not None and not 0 <= min_p <= 1:
        raise InvalidRequest("min_p must be between 0 and 1.", "min_p")
    if repetition_penalty is not None and not repetition_penalty > 0:
        raise InvalidRequest("repetition_penalty must be above 0.", "repetition_penalty")


def check_salt(salt: str | None) -> None:
    """Raises InvalidRequest for a salt that vLLM's caches do not accept."""
    if salt is not None and (
        not 0 < len(salt) <= _MAX_SALT or not _FORBIDDEN_IN_SALT.isdisjoint(salt)
    ):
        raise InvalidRequest(
            f"cache_salt must have 1 to {_MAX_SALT} characters, none of which is @, /, \\ or NUL.",
            "cache_salt",
        )

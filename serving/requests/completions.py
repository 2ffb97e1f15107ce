"""Reads the requests of OpenAI's completions API."""

import datetime
from dataclasses import dataclass

from serving.mistral import InvalidRequest, ModelRules
from serving.requests import body
from serving.requests.openai_body import CompletionsBody, check_logprobs
from serving.requests.request import Prompt, Request

PATH = "/v1/completions"
MAX_PROMPTS = 1024
"""vLLM's limit on the prompts of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionOptions:
    """The encoder's view of a request."""

    prompts: int = 1
    """The number of prompts."""
    n: int = 1
    """The number of answers to each prompt."""
    echo: bool = False
    """Whether the prompt is repeated in front of each answer."""
    echo_only: bool = False
    """Whether the answer is the prompt alone. The engine generates a token all the same."""
    logprobs: int | None = None
    prompt_logprobs: bool = False
    """Whether the log-probabilities of the prompt's tokens are asked for, in vLLM's form."""
    return_token_ids: bool = False
    tokens_as_ids: bool = False
    """Whether log-probabilities name tokens by their ids."""
    include_usage: bool = False
    """Whether the stream ends with the counts of tokens."""
    continuous_usage: bool = False
    """Whether each part of the stream has the counts so far."""


class _Body(CompletionsBody, kw_only=True):
    prompt: str | list[int | str | list[int]] | None = None
    max_tokens: int | None = 16
    echo: bool | None = False
    logprobs: int | None = None
    suffix: str | None = None
    add_special_tokens: bool = True
    return_tokens_as_token_ids: bool | None = None


def read(raw: bytes, rules: ModelRules, today: datetime.date) -> tuple[Request, CompletionOptions]:
    """Reads the body of /v1/completions. Without tokens to generate, the request has a limit of
    one, which is the least that the engine generates. Raises InvalidRequest."""
    fields, normalised = body.read(PATH, raw, _Body, rules, today)
    if fields.suffix:
        raise InvalidRequest(
            "suffix is not supported: this model continues a prompt and fills no gap. Leave it "
            "out, or ask for the text between in a chat.",
            param="suffix",
            code="unsupported_parameter",
        )
    prompts = _prompts(fields.prompt)
    if len(prompts) * fields.n > MAX_PROMPTS:
        raise InvalidRequest(f"n times the prompts must be at most {MAX_PROMPTS} answers.", "n")
    echo = fields.echo is True
    max_tokens = 16 if fields.max_tokens is None else fields.max_tokens
    if max_tokens < (0 if echo else 1):
        raise InvalidRequest("max_tokens must be at least 1, or 0 with echo.", "max_tokens")
    if fields.logprobs is not None:
        check_logprobs(fields.logprobs, "logprobs")
    include_usage, continuous_usage = fields.usage_in_stream()
    request = fields.request(
        prompts,
        max_tokens,
        fields.logprobs,
        normalised,
        prompt_logprobs=fields.logprobs if echo else None,
        add_special_tokens=fields.add_special_tokens,
        echo=echo,
    )
    request.max_tokens = max(max_tokens, 1)
    options = CompletionOptions(
        prompts=len(prompts),
        n=fields.n,
        echo=echo,
        echo_only=max_tokens == 0,
        logprobs=fields.logprobs,
        prompt_logprobs=fields.prompt_logprobs is not None,
        return_token_ids=fields.return_token_ids,
        tokens_as_ids=fields.return_tokens_as_token_ids is True,
        include_usage=include_usage,
        continuous_usage=continuous_usage,
    )
    return request, options


def _prompts(value: str | list[int | str | list[int]] | None) -> list[Prompt]:
    """Returns the prompts, each of which is a text or a list of token ids."""
    if not value:
        raise InvalidRequest("prompt must not be empty.", "prompt")
    if isinstance(value, str):
        return [value]
    ids = [item for item in value if isinstance(item, int)]
    prompts: list[Prompt] = [item for item in value if not isinstance(item, int)]
    if ids and prompts:
        raise InvalidRequest("prompt must be a list of token ids or a list of prompts.", "prompt")
    if ids:
        prompts = [ids]
    if len(prompts) > MAX_PROMPTS:
        raise InvalidRequest(f"prompt must be a list of at most {MAX_PROMPTS} prompts.", "prompt")
    for prompt in prompts:
        if not prompt:
            raise InvalidRequest("prompt must not be empty.", "prompt")
        if not isinstance(prompt, str) and min(prompt) < 0:
            raise InvalidRequest("prompt must not have negative token ids.", "prompt")
    return prompts

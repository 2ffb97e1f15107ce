"""vLLM's parameters of sampling for a request."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from vllm.sampling_params import (
    RepetitionDetectionParams,
    RequestOutputKind,
    SamplingParams,
    StructuredOutputsParams,
)

from serving.engine.vllm.constraints import logit_bias
from serving.engine.vllm.model import Model
from serving.engine.vllm.resumed_requests import GRAMMAR_IDS, RESUMED_IDS
from serving.mistral.rules import InvalidRequest
from serving.requests.request import Request

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

_TRANSFERS = ("kv_transfer_params", "ec_transfer_params")
"""What vLLM takes for fields of the request when it finds it among extra arguments."""


def sampling_params(
    request: Request,
    model: Model,
    constraint: StructuredOutputsParams | None,
    prompt_tokens: Sequence[int],
) -> list[SamplingParams]:
    """Returns the parameters of each answer: `n` to each of the prompts, which have that many
    tokens. Raises InvalidRequest for a prompt that leaves no context for an answer, and what vLLM
    raises for parameters that it refuses."""
    common = _common(request, model, constraint)
    seed = request.sampling.seed
    return [
        SamplingParams.from_optional(
            **common,
            max_tokens=_max_tokens(request, model, tokens),
            seed=None if seed is None else seed + again,
        )
        for tokens in prompt_tokens
        for again in range(request.n)
    ]


def go_on_behind(params: SamplingParams, delivered: list[int], model: Model) -> None:
    """Has an answer go on behind tokens that another engine generated. Unless the model resumes
    exactly, they are to become the end of the prompt."""
    params.prompt_logprobs = None
    name = RESUMED_IDS if model.resumes_exactly else GRAMMAR_IDS
    params.extra_args = {**(params.extra_args or {}), name: delivered}
    if not model.resumes_exactly:
        params.max_tokens = max(1, params.max_tokens - len(delivered))
        params.min_tokens = max(0, params.min_tokens - len(delivered))


def _common(
    request: Request, model: Model, constraint: StructuredOutputsParams | None
) -> dict[str, Any]:
    """Returns what the parameters of all the request's answers have in common."""
    given = request.sampling
    values: dict[str, Any] = {
        name: value
        if (value := getattr(given, name)) is not None
        else model.rules.sampling.get(name, default)
        for name, default in _DEFAULTS.items()
    }
    if values["top_p"] == 0:  # which vLLM refuses: no token but the most probable
        values |= {"top_p": 1.0, "top_k": 1}
    detection = given.repetition_detection
    if detection is not None:
        values["repetition_detection"] = RepetitionDetectionParams(
            **msgspec.structs.asdict(detection)
        )
    return values | {
        # Else vLLM would cut calls and JSON at them. The answer's parser ends other text.
        "stop_token_ids": None
        if request.has_form or request.tools.callable
        else given.stop_token_ids,
        "ignore_eos": given.ignore_eos,
        "min_tokens": given.min_tokens,
        "logprobs": given.logprobs,
        "prompt_logprobs": given.prompt_logprobs,
        "logit_bias": logit_bias(request, model.vocabulary),
        "bad_words": given.bad_words,
        "allowed_token_ids": given.allowed_token_ids,
        "extra_args": _clients(given.vllm_xargs),
        "structured_outputs": constraint,
        "detokenize": False,
        "output_kind": RequestOutputKind.DELTA,
        "skip_clone": True,
    }


def _max_tokens(request: Request, model: Model, prompt_tokens: int) -> int:
    left = model.max_model_len - prompt_tokens
    if left < 1:
        raise InvalidRequest(
            f"This model's maximum context length is {model.max_model_len} tokens, and "
            f"the prompt has {prompt_tokens} input tokens. Send a shorter one.",
            param=request.prompt_field,
            code="context_length_exceeded",
        )
    wanted = request.max_tokens
    if wanted is None:
        wanted = int(model.rules.sampling.get("max_tokens", left))
    return min(wanted, left)


def _clients(xargs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns a client's extra arguments without the names that are the engine's own. Raises
    InvalidRequest for those by which vLLM would load another's caches."""
    if xargs is None:
        return None
    for name in _TRANSFERS:
        if name in xargs:
            raise InvalidRequest(
                f"vllm_xargs must not have {name}: engines share no caches by request.",
                param="vllm_xargs",
                code="unsupported_parameter",
            )
    own = RESUMED_IDS, GRAMMAR_IDS
    return {name: value for name, value in xargs.items() if name not in own}

"""Each field of the requests of OpenAI's and Anthropic's SDKs is heeded, refused, warned of, or
harmless for a known reason."""

import json
from typing import Any

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import beta_output_config_param
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from openai.types import batch_create_params, completion_create_params, file_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import (
    input_token_count_params,
    response_create_params,
    response_text_config_param,
)
from openai.types.shared_params import Reasoning

from serving.mistral import InvalidRequest, Normalised
from serving.requests import chat, completions, messages, responses
from serving.router.batches import endpoints
from tests.support.reading import READING

_KNOWN = "is for the accounts and prices of the SDK's own service"
_CACHED = "says what to cache: everything is cached here"
_HEADER = "is a header"

HARMLESS = {
    "access_programs": _KNOWN,
    "service_tier": _KNOWN,
    "billing_policy": _KNOWN,
    "fallback_credit_token": _KNOWN,
    "speed": _KNOWN,
    "user": "changes no answer",
    "safety_identifier": "changes no answer",
    "metadata": "changes no answer; the router keeps that of a stored response",
    "reasoning.context": "this model is shown no reasoning of earlier turns",
    "reasoning.summary": "asks for a field of the answer, which is empty",
    "reasoning.generate_summary": "asks for a field of the answer, which is empty",
    "store": "the router heeds it on /v1/responses; no other answer is stored",
    "background": "is the router's",
    "max_tool_calls": "limits hosted tools alone",
    "prediction": "makes answers faster and changes none",
    "diagnostics": "asks for a field of the answer, which is missing",
    "cache_control": _CACHED,
    "prompt_cache_key": _CACHED + ", and routers heed it",
    "prompt_cache_options": _CACHED,
    "prompt_cache_retention": _CACHED,
    "stream_options": "on /v1/responses: obfuscation alone, which no stream here has",
    "betas": _HEADER,
    "user_profile_id": _HEADER,
    "workspace_id": _HEADER,
}
"""Why fields have no effect on how a request is read, and need no warning."""

TOLD: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "best_of": 3,
    "compaction": {"type": "summarize"},
    "container": "container_1",
    "context_management": [{"type": "compaction", "compact_threshold": 5000}],
    "conversation": "conv_1",
    "fallbacks": [{"model": "m"}],
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "image": {"context_compression": "enabled"},
    "inference_geo": "us",
    "mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}],
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "output_config.effort": "low",
    "output_config.task_budget": {"type": "tokens", "total": 20_000},
    "personality": "friendly",
    "prompt": {"id": "pmpt_1"},
    "reasoning.effort": "low",
    "reasoning.mode": "pro",
    "reasoning_effort": "low",
    "suffix": "x",
    "text.verbosity": "low",
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "thread": {"type": "continue", "previous_message_id": "msg_1"},
    "verbosity": "low",
    "web_search_options": {},
}
"""Values of the fields that are refused or warned of."""

HEEDED = {"output_config.format", "text.format"}
IGNORED_BY_ANTHROPIC = {(messages.COUNT_PATH, "compaction")}

_USER = {"role": "user", "content": "Hello"}
_MESSAGES = {"messages": [_USER], "max_tokens": 5}
READERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    chat.PATH: (chat.read, chat._ChatBody, {"messages": [_USER]}),
    completions.PATH: (completions.read, completions._Body, {"prompt": "Hello"}),
    responses.PATH: (responses.read, responses._Body, {"input": "Hello"}),
    responses.COUNT_PATH: (responses.read_count, responses._Body, {"input": "Hello"}),
    messages.PATH: (messages.read, messages._Body, _MESSAGES),
    messages.COUNT_PATH: (messages.read_count, messages._Body, _MESSAGES),
}
TYPES: dict[str, list[Any]] = {
    chat.PATH: [chat_create_params.CompletionCreateParamsBase],
    completions.PATH: [completion_create_params.CompletionCreateParamsBase],
    responses.PATH: [response_create_params.ResponseCreateParamsBase],
    responses.COUNT_PATH: [input_token_count_params.InputTokenCountParams],
    messages.PATH: [
        message_create_params.MessageCreateParamsBase,
        beta_create_params.MessageCreateParamsBase,
    ],
    messages.COUNT_PATH: [
        message_count_tokens_params.MessageCountTokensParams,
        beta_count_params.MessageCountTokensParams,
    ],
}
WITHIN: dict[str, dict[str, Any]] = {
    responses.PATH: {
        "reasoning": Reasoning,
        "text": response_text_config_param.ResponseTextConfigParam,
    },
    messages.PATH: {"output_config": beta_output_config_param.BetaOutputConfigParam},
}
"""Settings in objects, by the objects' fields."""

FIELDS = sorted(
    {
        (path, name)
        for path, kinds in TYPES.items()
        for kind in kinds
        for name in kind.__annotations__
    }
    | {
        (path, f"{name}.{inner}")
        for path, fields in WITHIN.items()
        for name, kind in fields.items()
        for inner in kind.__annotations__
    }
)


@pytest.mark.parametrize(("path", "name"), FIELDS)
def test_no_field_of_an_sdk_is_dropped_without_a_word(path: str, name: str) -> None:
    read, body, least = READERS[path]
    if name in HEEDED or name in body.__struct_fields__ or (path, name) in IGNORED_BY_ANTHROPIC:
        return
    if name not in TOLD:
        assert name in HARMLESS, f"decide what a new field of {path} does here"
        return
    outer, _, inner = name.partition(".")
    value = {inner: TOLD[name]} if inner else TOLD[name]
    try:
        made = read(json.dumps({**least, outer: value}).encode(), *READING)
    except InvalidRequest as error:
        assert (error.param, error.code) == (name, "unsupported_parameter")
        assert len(error.message) > len(f"{name} is not supported.")  # it has advice
    else:
        normalised = made[-1] if isinstance(made[-1], Normalised) else made[0].normalised
        told = " ".join(normalised.warnings)
        assert name in told or name.split(".")[-1].replace("_", " ") in told


def test_nothing_is_listed_that_no_sdk_has() -> None:
    assert {*HARMLESS, *TOLD} <= {name for _, name in FIELDS}


def test_files_and_batches_heed_all_fields() -> None:
    fields = batch_create_params.BatchCreateParams.__annotations__
    assert fields.keys() <= set(endpoints._NewBatch.__struct_fields__)
    known = {"file", "purpose", "expires_after"}
    assert file_create_params.FileCreateParams.__annotations__.keys() <= known


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (responses.PATH, "image", {"context_compression": "auto"}),
        (responses.PATH, "reasoning", {"mode": "standard"}),
        (messages.PATH, "inference_geo", "global"),
    ],
)
def test_a_field_that_asks_for_nothing_special_passes(path: str, name: str, value: Any) -> None:
    read, _, least = READERS[path]
    request, _ = read(json.dumps({**least, name: value}).encode(), *READING)
    assert request.normalised.warnings == ()

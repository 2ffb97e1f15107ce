"""vLLM takes requests that clients send and it would reject, once they are normalised."""

import copy
import datetime
from typing import Any

import pytest
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from serving.mistral import ModelRules, normalise

TODAY = datetime.date(2026, 3, 1)
RULES = ModelRules(
    "mistral-test/small", "v11", context_tokens=1000, image_limit=2, other_server=True
)
USER = {"role": "user", "content": "Hello"}

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
REQUESTS: dict[str, Any] = {
    CHAT: (ChatCompletionRequest, {"messages": [USER]}),
    COMPLETIONS: (CompletionRequest, {"prompt": "Hello"}),
    RESPONSES: (ResponsesRequest, {"input": "Hello"}),
    MESSAGES: (AnthropicMessagesRequest, {"messages": [USER], "max_tokens": 5}),
}


def parsed(endpoint: str, **fields: Any) -> Any:
    """Returns vLLM's reading of a normalised request."""
    kind, required = REQUESTS[endpoint]
    body = copy.deepcopy({**required, **fields, "model": "m"})
    normalise(endpoint, body, RULES, TODAY)
    return kind.model_validate(body)


@pytest.mark.parametrize("endpoint", REQUESTS)
def test_every_optional_field_may_be_null(endpoint: str) -> None:
    kind, required = REQUESTS[endpoint]
    nulls = dict.fromkeys(kind.model_fields.keys() - required.keys())
    with_nulls, without = parsed(endpoint, **nulls), parsed(endpoint)
    if "request_id" in kind.model_fields:
        without.request_id = with_nulls.request_id
    assert with_nulls == without


CALL = {"id": "abcdefghi", "function": {"name": "f", "arguments": {"a": 1}}}
TEXT = {"type": "output_text", "text": "Hi.", "annotations": None, "logprobs": None}
CALL_ITEM = {"type": "function_call", "call_id": "abcdefghi", "name": "f", "arguments": {"a": 1}}


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (CHAT, {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}),
        (CHAT, {"messages": [{**USER, "name": None}]}),
        (CHAT, {"tools": [{"type": None, "function": {"name": "f", "parameters": None}}]}),
        (RESPONSES, {"input": [{"type": None, **USER}]}),
        (RESPONSES, {"input": [USER, {**CALL_ITEM, "id": None, "status": None}]}),
        (
            RESPONSES,
            {"input": [{"type": "message", "role": "assistant", "id": None, "content": [TEXT]}]},
        ),
        (RESPONSES, {"include": ["web_search_call.action.sources"]}),
    ],
)
def test_what_vllm_rejects_is_mended(endpoint: str, fields: dict[str, Any]) -> None:
    kind, required = REQUESTS[endpoint]
    with pytest.raises(ValueError, match="validation error"):
        kind.model_validate(copy.deepcopy({**required, **fields, "model": "m"}))
    parsed(endpoint, **fields)

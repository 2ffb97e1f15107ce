"""Each field of vLLM's requests is heeded, refused, warned of, or harmless for a known reason."""

import json
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from serving.mistral import InvalidRequest
from serving.requests import chat, completions
from tests.support.reading import READING

HARMLESS = {
    "user": "changes no answer",
    "session_id": "changes no answer; routers know sessions by x-session-id and prompt_cache_key",
    "length_penalty": "is for beam search alone, which is refused",
    "spaces_between_special_tokens": "is without effect on Mistral's tokenizers in vLLM",
    "add_special_tokens": "in a chat: Mistral's tokenizer begins each one by itself",
    "add_generation_prompt": "says what the last message and continue_final_message say",
    "routed_experts_prompt_start": "is for experts' routes, which no answer here has",
    "return_token_offsets": "is for vLLM's render endpoints alone",
    "mm_payload": "is for vLLM's render endpoints alone",
    "return_mm_kwargs": "is for vLLM's render endpoints alone",
}
"""Why fields have no effect here and need no warning."""

TOLD: dict[str, Any] = {
    "use_beam_search": True,
    "logprob_token_ids": [5],
    "kv_transfer_params": {"a": 1},
    "ec_transfer_params": {"a": 1},
    "prompt_embeds": "x",
    "suffix": "x",
    "media_io_kwargs": {"image": {}},
    "mm_processor_kwargs": {"a": 1},
    "chat_template": "{{ x }}",
    "chat_template_kwargs": {"a": 1},
    "documents": [{"text": "a"}],
    "reasoning_effort": "low",
    "thinking_token_budget": 5,
    "include_reasoning": False,
    "watermarking": True,
    "request_id": "a",
    "return_prompt_text": True,
    "stream_interval": 5,
}
"""Values of the fields that are refused or warned of."""

USER = {"role": "user", "content": "Hello"}
READERS: dict[Any, Any] = {
    ChatCompletionRequest: (chat.read, chat._ChatBody, {"messages": [USER]}),
    CompletionRequest: (completions.read, completions._Body, {"prompt": "Hello"}),
}
FIELDS = [(kind, name) for kind in READERS for name in kind.model_fields]


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_no_field_of_vllms_is_dropped_without_a_word(kind: Any, name: str) -> None:
    read, body, least = READERS[kind]
    if name not in TOLD:
        assert name in body.__struct_fields__ or name in HARMLESS
        return
    try:
        request, _ = read(json.dumps({**least, name: TOLD[name]}).encode(), *READING)
    except InvalidRequest as error:
        assert error.param == name
        assert len(error.message) > len(f"{name} is not supported.")  # it has advice
    else:
        told = " ".join(request.normalised.warnings)
        assert name in told or name.replace("_", " ") in told


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_vllms_own_default_is_neither_refused_nor_warned_of(kind: Any, name: str) -> None:
    read, _, least = READERS[kind]
    field = kind.model_fields[name]
    if field.is_required() or field.default_factory is not None or name in least:
        return
    request, _ = read(json.dumps({**least, name: field.default}).encode(), *READING)
    assert request.normalised.warnings == ()


def test_nothing_is_listed_that_vllm_does_not_have() -> None:
    assert {*HARMLESS, *TOLD} <= {name for _, name in FIELDS}

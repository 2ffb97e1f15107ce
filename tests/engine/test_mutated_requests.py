"""Requests of every API with anything in any place are answered, or refused as the client's."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.asking import CHAT, COMPLETIONS, MESSAGES, RESPONSES, asked
from tests.engine.fake_llm import FakeLlm

REQUESTS = 250
"""For each path; they are the same in each run."""

_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
    "required": ["a"],
}
_FUNCTION = {"name": "f", "description": "Does.", "parameters": _SCHEMA, "strict": True}
_FLAT = {"type": "function", **_FUNCTION}
_TOOL = {"type": "function", "function": _FUNCTION}
_INPUT_TOOL = {"name": "f", "description": "Does.", "input_schema": _SCHEMA}
_CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_FORM = {"type": "json_schema", "name": "x", "schema": _SCHEMA, "strict": True}

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "r"},
            {"role": "assistant", "content": "Yes.", "name": "n"},
            {"role": "user", "content": "x"},
        ],
        "tools": [_TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": {"type": "json_schema", "json_schema": _FORM},
        "max_tokens": 5,
        "max_completion_tokens": 6,
        "temperature": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "n": 2,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"5": 1},
        "stream_options": {"include_usage": True},
        "repetition_penalty": 1.1,
        "min_tokens": 1,
        "bad_words": ["x"],
        "allowed_token_ids": [5, 6],
        "prompt_logprobs": 0,
        "cache_salt": "a",
        "truncate_prompt_tokens": 50,
        "truncation_side": "left",
        "stop_token_ids": [7],
        "vllm_xargs": {"a": 1},
    },
    COMPLETIONS: {
        "prompt": ["Hi", [1, 5]],
        "max_tokens": 5,
        "echo": True,
        "logprobs": 1,
        "n": 2,
        "stop": "x",
        "response_format": {"type": "json_object"},
        "structured_outputs": {"regex": "a+"},
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "repetition_detection": {"max_pattern_size": 4, "min_pattern_size": 1, "min_count": 3},
        "seed": 3,
    },
    RESPONSES: {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "a", "annotations": []}],
            },
            {"type": "function_call", "call_id": "abcdefghi", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "abcdefghi", "output": "r"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
            {"role": "user", "content": "x"},
        ],
        "instructions": "i",
        "tools": [
            _FLAT,
            {"type": "custom", "name": "c", "format": {"type": "text"}},
            {"type": "namespace", "name": "ns", "description": "", "tools": [_FLAT]},
        ],
        "tool_choice": "auto",
        "text": {"format": _FORM, "verbosity": "low"},
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "reasoning": {"effort": "low"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 1,
        "truncation": "disabled",
    },
    MESSAGES: {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "abcdefghi", "name": "f", "input": {"a": "x"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "abcdefghi", "content": "r"},
                    {"type": "text", "text": "x"},
                ],
            },
        ],
        "system": [{"type": "text", "text": "s"}],
        "max_tokens": 5,
        "tools": [_INPUT_TOOL],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["a"],
        "top_k": 2,
        "output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}},
    },
    "/tokenize": {"messages": [{"role": "user", "content": "Hi"}], "tools": [_TOOL]},
    "/detokenize": {"tokens": [1, 2, 3]},
    f"{MESSAGES}/count_tokens": {
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "s",
        "tools": [_INPUT_TOOL],
    },
}
_NEEDED = ("messages", "input", "prompt", "max_tokens", "tokens")
_ANYTHING: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**64, 10**400, 1.5, 1e308),
    *("", "a", "\0", "\ud800x", "😀", "auto", "none", "required", "user", "assistant", "tool"),
    *("text", "json_object", "f", "abcdefghi", "[INST]", ["a"] * 300, str(2**70)),
    *([], {}, [[]], [None], [{}], [1, "a"], {"type": "text"}, {"type": "function"}, {"type": []}),
    *({"a": None}, {"$ref": "#/x"}, {"type": "text", "text": "x"}),
]


def mutated(body: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """Returns some of the fields, with anything in the place of one to three values."""
    kept = (name for name in body if name in _NEEDED or dice.random() < 0.5)
    result = {name: copy.deepcopy(body[name]) for name in kept}
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        places = list(places_in(result))
        if not places:
            break
        holder, place = dice.choice(places)
        match dice.choice(("replaced", "replaced", "replaced", "removed", "repeated")):
            case "replaced":
                holder[place] = copy.deepcopy(dice.choice(_ANYTHING))
            case "removed":
                del holder[place]
            case "repeated" if isinstance(holder, list):
                holder.append(holder[place])
    return result


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields all places of values, as a container and a key."""
    if not isinstance(value, dict | list):
        return
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        yield from places_in(value[key])


@pytest.mark.parametrize("path", BODIES)
async def test_anything_is_answered_or_refused(path: str) -> None:
    dice, answered = random.Random(path), 0
    for _ in range(REQUESTS):
        body = mutated(BODIES[path], dice) | {"stream": dice.random() < 0.5}
        engine = FakeLlm()
        engine.model_config.max_model_len = 10_000
        response = await asked(engine, path, content=json.dumps(body).encode())
        said = f"{response.text[-300:]}\nto {body}"
        if response.status_code == 200:
            assert '"error":{' not in response.text, said
            answered += 1
            continue
        assert response.status_code == 400, said
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error" and error["message"], said
        assert response.json().get("type") == ("error" if path.startswith(MESSAGES) else None)
    assert answered >= REQUESTS / 20

"""Fields that chats and completions have in common, each with another value than its default."""

from typing import Any

SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 3,
    "min_p": 0.1,
    "frequency_penalty": 0.2,
    "presence_penalty": 0.3,
    "repetition_penalty": 1.1,
    "seed": 7,
    "stop_token_ids": [3],
    "ignore_eos": True,
    "min_tokens": 2,
    "bad_words": ["x"],
    "allowed_token_ids": [1, 2],
    "prompt_logprobs": 1,
    "vllm_xargs": {"a": 1},
}
"""Those that `Sampling` keeps as they are sent."""
OTHERS: dict[str, Any] = {
    "model": "m",
    "n": 3,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "truncate_prompt_tokens": 9,
    "truncation_side": "left",
    "cache_salt": "salt",
    "priority": 2,
    "return_token_ids": True,
    "stream": True,
}
"""Those that `Request` keeps as they are sent."""

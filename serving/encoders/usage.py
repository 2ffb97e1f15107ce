"""The counts of tokens in OpenAI's APIs of completions."""

from typing import Any

from serving.answers.events import Usage


def openai_usage(usage: Usage) -> dict[str, Any]:
    """Returns OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }

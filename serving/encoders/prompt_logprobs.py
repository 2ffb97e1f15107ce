"""vLLM's `prompt_logprobs`, which OpenAI's APIs do not have."""

from collections.abc import Sequence
from typing import Any

from serving.answers.events import TokenLogprob


def prompt_logprobs(tokens: Sequence[TokenLogprob | None]) -> list[dict[str, Any] | None]:
    """Returns for each place of the prompt what is known of tokens there, by their ids; None for
    the first place."""
    return [None if token is None else _known(token) for token in tokens]


def _known(token: TokenLogprob) -> dict[str, Any]:
    return {
        str(known.token_id): {
            "logprob": known.logprob,
            "rank": known.rank,
            "decoded_token": known.token,
        }
        for known in (token, *token.top)
    }

"""The protocol between the engines and routers of one Ray cluster, beside OpenAI's API."""

import secrets
from typing import NotRequired, TypedDict

UNAVAILABLE = b"x-engine-unavailable"
"""Header of an engine's 503 that has produced nothing of an answer: `DRAINING` or `DEAD`."""
DRAINING = b"draining"
DEAD = b"dead"

DEATH = b"x-engine-death"
"""Header of a 503 with `DEAD`: why the engine died, one of `serving.poison.Reason`."""
SUSPECTS = b"x-engine-suspects"
"""Header of a 503 with `DEAD`: how many requests were in the engine's last steps, if this one was;
0 if it was not, as it came later or its answer had begun."""

PROMPT_TOKENS = b"x-prompt-tokens"
"""Response header: the number of tokens in the prompts."""
CACHED_TOKENS = b"x-cached-tokens"
"""Response header: how many of the prompt tokens the engine had cached."""

REWRITES = b"x-rewrites"
"""Response header: how the engine changed the request as it read it, as a list with commas."""

_TOKEN_KEY = b"mistral-serve/engine-token"


class EngineMetadata(TypedDict):
    """The metadata that Ray Serve passes from an engine replica to the routers."""

    host: str
    port: int
    max_model_len: int
    """The context length in tokens."""
    kv_cache_tokens: int
    max_num_seqs: int
    """The most sequences that vLLM runs at the same time."""
    build: NotRequired[str]
    """A digest of the engine's code, model and settings: what ends one build need not end
    another."""


def bearer(token: str) -> bytes:
    """Returns the value of the `authorization` header that an engine accepts."""
    return b"Bearer " + token.encode()


def engine_token() -> str:
    """Returns the cluster's token, created at first use and stored by Ray's head, so that it
    survives new replicas and rollouts and is in no manifest, config or environment."""
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    _internal_kv_put(_TOKEN_KEY, secrets.token_urlsafe(32).encode(), overwrite=False)
    return bytes(_internal_kv_get(_TOKEN_KEY)).decode()

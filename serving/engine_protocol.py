"""The protocol between the engines and routers of one Ray cluster, beside OpenAI's API."""

import secrets
from typing import NotRequired, TypedDict

import msgspec

from serving.ledger.tokens import Tokens

UNAVAILABLE = b"x-engine-unavailable"
"""Header of an engine's 503 that has produced nothing of an answer: `DRAINING`, `DEAD` or
`NO_ADAPTER`."""
DRAINING = b"draining"
DEAD = b"dead"

HEALTH_PATH = "/health"

DRAIN_LEFT = b"x-engine-drain-left-s"
"""Header of a 503 with `DRAINING`, and of the answer to a health check from when the engine knows
that its node goes: the seconds until the engine cuts off the answers that are left."""

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

CACHE_SALT = b"x-cache-salt"
"""Request header: separates what the engine caches of the request from what it caches of requests
with another salt. Routers derive it from the tenant, and pass on none that a client sent."""

USAGE_ID = b"x-usage-id"
"""Request header: the router's name and its number for the request, as ROUTER/NUMBER. The engine
keeps the request's counts for the router under this number."""
USAGE_PATH = "/usage"
"""Where the router fetches them, at all times: `GET /usage?router=ROUTER&after=LAST`."""

ADAPTER = b"x-adapter"
"""Request header: the digest of the adapter that answers. Routers pass on none that a client
sent."""
ADAPTERS_PATH = "/adapters"
"""Where routers ask an engine for its adapters, and `POST` a `serving.adapters.Version` to have it
loaded. The answer to both is `EngineAdapters`; of a version that does not load it is a 422."""
NO_ADAPTER = b"no-adapter"
"""Value of `UNAVAILABLE`: the engine does not have the adapter, or no longer."""
RESUMPTION = b"x-resumption"
"""Header by which a stream that breaks goes on at another engine.

Of a request: `BEGIN` if the router wants to know the tokens of each event. To continue a stream:
the mark of its answer, and the length of the original request in bytes, which a `Handover` in JSON
follows in the body. Of a response: the mark of the answer, which the router returns unread.

With it the engine writes comments into the stream, which the router takes out: before the events
that some tokens add, `COMMENT` and the number of the events, then with commas the tokens as JSON of
`Delivered`. The comment of the last events of all ends with `LAST`. An event without a comment is
of a single token whose text the event has."""
COMMENT = b": tokens "
"""Not shorter, as routers look for it in each chunk, which a longer pattern makes faster."""
LAST = b"null"
"""Ends the comment of a stream's last events."""
BEGIN = b"begin"
NOT_RESUMABLE = b"x-not-resumable"
"""Response header in place of the mark: why no other engine can continue this stream."""

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
    host_kv_cache_tokens: NotRequired[int]
    """Tokens of earlier prompts that main memory keeps."""
    build: NotRequired[str]
    """A digest of the engine's code, model and settings: what ends one build need not end
    another."""


class Delivered(msgspec.Struct, array_like=True, omit_defaults=True):
    """Tokens of an answer that an engine generated in one step."""

    choice: int
    tokens: list[int] | str
    """Their ids, or the text of a single one."""
    reason: str | None = None
    """Why vLLM ended the choice with them, in its terms."""
    stop: int | str | None = None
    """The stop token that ended the choice."""


class Handover(msgspec.Struct):
    """What a client has of a stream that another engine is to continue."""

    events: int
    """The number of events that the client has."""
    cached_tokens: int
    """Prompt tokens that the engine which began the answer had cached."""
    steps: list[Delivered]


class EngineUsage(msgspec.Struct):
    """The counts of a router's requests at one engine, by their numbers."""

    running: dict[int, Tokens]
    ended: dict[int, Tokens]
    last: int
    """Stands for the last of `ended`: with it in the next question, the engine forgets them."""


class EngineAdapters(msgspec.Struct):
    """The adapters of an engine."""

    resident: list[str]
    """The digests of those that it has loaded."""
    load_ms: float
    """The mean time that a load takes."""


class NotLoaded(msgspec.Struct):
    """Why an adapter was not loaded."""

    reason: str


def bearer(token: str) -> bytes:
    """Returns the value of the `authorization` header that an engine accepts."""
    return b"Bearer " + token.encode()


def engine_token() -> str:
    """Returns the cluster's token, created at first use and stored by Ray's head, so that it
    survives new replicas and rollouts and is in no manifest, config or environment."""
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    _internal_kv_put(_TOKEN_KEY, secrets.token_urlsafe(32).encode(), overwrite=False)
    return bytes(_internal_kv_get(_TOKEN_KEY)).decode()

"""The record of one request: the line that the request log has of it."""

import time
from datetime import datetime
from typing import Literal

import msgspec

from serving.asgi import Headers
from serving.dispatch import LimitName
from serving.mistral.normalise import Rewrite
from serving.router.http.authentication_errors import TOO_MANY_FAILURES
from serving.router.http.errors import CRASHES_ENGINE, REQUEST_FAILED, ApiError

Outcome = Literal[
    "answered",
    "client_gone",
    "unauthorized",
    "invalid",
    "limited",
    "refused",
    "replicas_failed",
    "broken",
    "internal_error",
]
"""How a request ended:

- answered: the client has the engine's whole answer, which may be an error of the engine.
- client_gone: the client disconnected before that.
- unauthorized: no valid API key or token was sent, or one that may not do this.
- invalid: the router could not parse or route the request, a healthy engine failed on it, or it
  ends engines.
- limited: the request exceeded a limit of its tenant; `limit` says which.
- refused: the request was rejected by admission, at once or after waiting; `error` says why.
- replicas_failed: every replica that was tried failed before the answer had begun.
- broken: the answer had begun and ended incomplete, or the router was stopped during it.
- internal_error: the router failed.
"""

_encode = msgspec.json.Encoder().encode


class RequestRecord(msgspec.Struct):
    """The fields of a log line, filled in while the request is served. Stages it did not reach are
    None."""

    time: datetime
    """When the head of the request arrived."""
    request_id: str
    path: str
    outcome: Outcome = "broken"
    status: int | None = None
    """Status of the response; None: the client got none."""
    error: str | None = None
    """The code of an error that the router produced."""
    limit: LimitName | None = None
    """The limit of the tenant that the request exceeded."""
    tenant: str | None = None
    key_id: str | None = None
    """The id of the API key; None for a token of the identity provider, and for anyone."""
    batch_id: str | None = None
    """The batch that the request is a line of."""
    model: str | None = None
    adapter: str | None = None
    """The adapter of the model that was asked for."""
    adapter_version: str | None = None
    """The digest of the version of it that answers."""
    canary: bool | None = None
    """Whether that is the adapter's canary."""
    stream: bool | None = None
    replica: str | None = None
    """The replica that sent the head of the response; without a response, the last one tried."""
    queue_ms: float | None = None
    """Total time in the request queue."""
    prompt_tokens: int | None = None
    """Prompt tokens, estimated from the length of the body."""
    expected_cached_tokens: int | None = None
    """Prompt tokens that were expected to be cached on `replica`."""
    cached_tokens: int | None = None
    """Prompt tokens that were cached, as the engine reports."""
    input_tokens: int = 0
    """Prompt tokens, as the engine reports, else as estimated; 0 if no engine has read the prompt.
    """
    output_tokens: int = 0
    """Answer tokens, as the engine reports; until then, and for a stream that does not report its
    usage, the number of its events."""
    ttft_ms: float | None = None
    """Time until the first byte of a stream was sent on."""
    duration_ms: float = 0.0
    retries: int = 0
    """How often the request was sent again after a failure, to another replica or the same."""
    continued: int = 0
    """How many replicas continued a stream that had begun."""
    handed_over: int = 0
    """How many of them did so as the one before drained, and would have ended first."""
    rewrites: tuple[Rewrite, ...] = ()
    """How the engine, or the router for a backend, changed the request."""
    trace_id: str | None = None

    def queued(self, since_s: float) -> None:
        """Adds a wait in the request queue that began at `since_s`, by time.monotonic()."""
        self.queue_ms = round((self.queue_ms or 0.0) + ms_since(since_s), 3)

    def failed(self, error: ApiError) -> None:
        """Records the error that the client gets."""
        self.error = error.code
        if self.status is None:
            self.status = error.status
        self.limit = error.limit
        if error.limit is not None:
            self.outcome = "limited"
        elif error.refused is not None:
            self.outcome = "refused"
        elif error.status in (401, 403) or error.code == TOO_MANY_FAILURES:
            self.outcome = "unauthorized"
        elif error.status < 500 or error.code in (REQUEST_FAILED, CRASHES_ENGINE):
            self.outcome = "invalid"
        else:
            self.outcome = "replicas_failed" if error.status == 503 else "internal_error"

    def headers(self) -> Headers:
        """Returns response headers to send in addition to the engine's: what is known at its
        beginning."""
        headers = []
        if self.queue_ms is not None:
            headers.append((b"x-queue-time-ms", b"%d" % self.queue_ms))
            headers.append((b"x-retries", b"%d" % self.retries))
        if self.replica is not None:
            expected = b"%d" % (self.expected_cached_tokens or 0)
            headers.append((b"x-replica", self.replica.encode()))
            headers.append((b"x-expected-cached-tokens", expected))
        return headers

    def line(self) -> bytes:
        return _encode(self) + b"\n"


def ms_since(since_s: float) -> float:
    """Returns the milliseconds since a time of time.monotonic()."""
    return round((time.monotonic() - since_s) * 1000, 3)

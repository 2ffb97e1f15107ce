"""What became of a request and why: the line that the log has of it."""

import time
from datetime import datetime
from typing import Literal

import msgspec

from serving.router.http.asgi import Headers
from serving.router.http.errors import ApiError

Rewrite = Literal["normalised", "max_tokens_clamped", "warned"]
"""
- normalised: the engine was sent another body than the client's, of the same meaning.
- max_tokens_clamped: with a lower limit on the answer.
- warned: something was left out or moved, and the client was told.
"""
Outcome = Literal[
    "answered",
    "client_gone",
    "unauthorized",
    "invalid",
    "refused",
    "replicas_failed",
    "broken",
    "internal_error",
]
"""
- answered: the client has the engine's whole answer, which may be an error of that engine's.
- client_gone: it left before.
- unauthorized: it has no key of a tenant.
- invalid: the router could make nothing of the request.
- refused: it was not let in, or waited in vain; `error` says why.
- replicas_failed: each replica that was asked failed before the answer had begun.
- broken: the answer had begun, and ended unfinished; or the router was ended under it.
- internal_error: the router failed.
"""

_encode = msgspec.json.Encoder().encode


class RequestRecord(msgspec.Struct):
    """The fields of a line, filled in on the request's way. Those that it did not come to are
    None."""

    time: datetime
    """When its head had come."""
    request_id: str
    path: str
    outcome: Outcome = "broken"
    status: int | None = None
    """None: the client got no answer."""
    error: str | None = None
    """The code of an error of the router's own."""
    tenant: str | None = None
    model: str | None = None
    stream: bool | None = None
    replica: str | None = None
    """That the answer's head is from; without an answer, the last that was asked."""
    queue_ms: float | None = None
    """In the line for a place, each time that it stood there."""
    prompt_tokens: int | None = None
    """As estimated from the body's length."""
    expected_cached_tokens: int | None = None
    """Of the prompt, on `replica`."""
    cached_tokens: int | None = None
    """The same, as the engine says."""
    input_tokens: int = 0
    """Of the prompt, as the engine says, else as estimated; 0 if no engine has read it."""
    output_tokens: int = 0
    """As the engine says; about, where a stream does not tell its usage."""
    ttft_ms: float | None = None
    """Of a stream: until its first byte was sent on."""
    duration_ms: float = 0.0
    retries: int = 0
    """How often a replica was asked after another had failed, or the same once more."""
    continued: int = 0
    """Replicas that went on with a stream that had begun."""
    rewrites: tuple[Rewrite, ...] = ()
    """What was done to the request before an engine was sent it."""
    trace_id: str | None = None

    def queued(self, since_s: float) -> None:
        """It stood in the line since then, by time.monotonic()."""
        self.queue_ms = round((self.queue_ms or 0.0) + ms_since(since_s), 3)

    def failed(self, error: ApiError) -> None:
        """The client gets the error."""
        self.error = error.code
        if self.status is None:
            self.status = error.status
        if error.refused is not None:
            self.outcome = "refused"
        elif error.status == 401:
            self.outcome = "unauthorized"
        elif error.status < 500:
            self.outcome = "invalid"
        else:
            self.outcome = "replicas_failed" if error.status == 503 else "internal_error"

    def headers(self) -> Headers:
        """Of the answer, beside the engine's own: what is known when it begins."""
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
    """By time.monotonic()."""
    return round((time.monotonic() - since_s) * 1000, 3)

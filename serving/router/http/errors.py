"""The errors that clients see, in OpenAI's format."""

import json
import math

from serving.asgi import Headers
from serving.dispatch import Exceeded, LimitName, Rejection
from serving.mistral import context_length
from serving.mistral.anthropic_error import anthropic_error
from serving.poison import Reason

REQUEST_FAILED = "request_failed"
"""Code of the error that blames the request for what it did to a healthy engine."""
CRASHES_ENGINE = "request_crashes_engine"
"""Code of the error that blames the request for an engine's death."""

_TRACE = '\n  File "'
"""What a message that includes a place in another server's code has in it."""

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
_DEATHS: dict[Reason, str] = {
    "crash": "it crashes",
    "cuda_out_of_memory": "CUDA out of memory",
    "out_of_memory": "out of memory",
    "hang": "it makes no progress any more",
    "killed": "its process is killed",
    "unreachable": "its process ends",
}
ANTHROPIC_VERSION = "anthropic-version"
"""The header that all clients of Anthropic's API send."""
_RESPONSES = "/v1/responses"


def is_anthropics(path: str) -> bool:
    """Returns whether a path is one of Anthropic's API."""
    return path.startswith("/v1/messages")


class ApiError(Exception):
    """An error response: an HTTP status and OpenAI's error object, whose type follows from the
    status unless it is given.

    `retry_after_s` and `allow` become the headers of those names; `refused` (why admission rejected
    the request) and `limit` (that of its tenant which it exceeds) become `x-refused`; with
    `is_final` `x-should-retry` tells the clients of OpenAI and Anthropic not to send it again by
    themselves. The message says what to do and contains nothing of the request but the names it
    used.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        allow: str | None = None,
        refused: str | None = None,
        limit: LimitName | None = None,
        is_final: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        default = "server_error" if status >= 500 else "invalid_request_error"
        self.type = type or _OPENAI_TYPES.get(status, default)
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.allow = allow
        self.refused = refused
        self.limit = limit
        self.is_final = is_final
        self.more_headers: Headers = []

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_s))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.status == 415:
            headers.append((b"accept-encoding", b"gzip, deflate, zstd"))
        if self.allow is not None:
            headers.append((b"allow", self.allow.encode()))
        if (refused := self.refused or self.limit) is not None:
            headers.append((b"x-refused", refused.encode()))
        if self.is_final:
            headers.append((b"x-should-retry", b"false"))
        return headers + self.more_headers

    def body(self, path: str, request_id: str | None = None) -> bytes:
        """Returns the response body for a request to `path`: in Anthropic's shape for its API,
        whose clients read no other, else in OpenAI's."""
        if is_anthropics(path):
            return self.anthropic_body(request_id)
        return json.dumps({"error": self._fields()}).encode()

    def anthropic_body(self, request_id: str | None) -> bytes:
        """Returns the response body in Anthropic's shape, which its clients also get at paths that
        both APIs have."""
        told = anthropic_error(self.message, self.status) | {"request_id": request_id}
        return json.dumps(told).encode()

    def event(self, path: str, number: int, request_id: str | None = None) -> bytes:
        """Returns the error as a server-sent event, for a stream of `path` that has already begun
        with that `number` of events."""
        told = self._in_stream()
        data = told.body(path, request_id)
        if path == _RESPONSES:
            # OpenAI's clients raise an exception for what is in `error`; others know the rest.
            fields = told._fields()
            own = {name: fields[name] for name in ("code", "message", "param")}
            event = {"type": "error", "sequence_number": number, **own, "error": fields}
            data = json.dumps(event).encode()
        named = path == _RESPONSES or is_anthropics(path)
        return b"%bdata: %b\n\n" % (b"event: error\n" if named else b"", data)

    def _in_stream(self) -> "ApiError":
        """Returns the error for clients that get no HTTP status: agents send a turn again if they
        find that of a failure in the message, or OpenAI's type of one."""
        if self.is_final or not (self.status == 429 or self.status >= 500):
            return self
        return ApiError(
            self.status,
            f"{self.message} (status {self.status})",
            type="server_error" if self.status >= 500 else self.type,
            code=self.code,
            param=self.param,
        )

    def _fields(self) -> dict[str, str | None]:
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }


def invalid_value(field: str | None, message: str) -> ApiError:
    return ApiError(400, message, code="invalid_value", param=field)


def wrong_value(field: str, what: str) -> ApiError:
    return invalid_value(field, f"{field} must be {what}.")


def unknown_model(model: str, known: list[str]) -> ApiError:
    return ApiError(
        404,
        f"The model '{model[:200]}' does not exist. Available models: {', '.join(known)}.",
        code="model_not_found",
        param="model",
    )


def adapter_not_loaded(name: str) -> ApiError:
    return ApiError(
        503,
        f"The adapter '{name}' cannot be loaded at present. The operator finds the reason in the "
        "log of the engines.",
        code="adapter_not_loaded",
        param="model",
    )


def no_replica(model: str, retry_after_s: int) -> ApiError:
    return ApiError(
        503,
        f"No replica of '{model}' is up yet. Try again in about {retry_after_s} s.",
        code="no_replica",
        retry_after_s=retry_after_s,
    )


def rejected(model: str, rejection: Rejection) -> ApiError:
    """Returns the error for a request that admission rejected or that waited too long: 429 on
    overload, 503 if no replica is up, 400 if the request can never be served."""
    wait = f"The expected wait is about {math.ceil(rejection.wait_s)} s"
    again = f" Try again in {rejection.retry_after_s} s."
    match rejection.reason:
        case "no_replica":
            return ApiError(
                503,
                f"No replica of '{model}' is up yet. {wait}.{again}",
                code=rejection.reason,
                retry_after_s=rejection.retry_after_s,
                refused=rejection.reason,
            )
        case "deadline_too_short":
            return ApiError(
                400,
                "The timeout is shorter than the least time that this request takes. Set a longer "
                "x-request-timeout, or shorten the prompt.",
                code=rejection.reason,
                refused=rejection.reason,
            )
        case "deadline_unreachable":
            message = f"'{model}' cannot answer within the request's timeout. {wait}."
        case "queue_full":
            message = f"Too many requests are waiting for '{model}'. {wait}."
        case "wait_too_long":
            message = f"'{model}' is overloaded. {wait}."
    return ApiError(
        429,
        message + again,
        code=rejection.reason,
        retry_after_s=rejection.retry_after_s,
        refused=rejection.reason,
    )


_LIMITED = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "tokens_per_day": "tokens per day",
    "concurrent_requests": "requests at a time",
}


def limited(exceeded: Exceeded, model: str | None = None) -> ApiError:
    """Returns the error for a request that exceeds a limit of its tenant, or of a `model`, with
    OpenAI's codes."""
    of_day = exceeded.limit == "tokens_per_day"
    limit = f"limit of {exceeded.most} {_LIMITED[exceeded.limit]}"
    if model is not None:
        limit += f" for the model '{model}'"
    message = f"The {limit} is reached."
    if exceeded.retry_after_s is None:
        message = (
            f"This request alone exceeds the {limit}. "
            "Shorten the prompt, or limit the answer by max_tokens."
        )
    else:
        message += f" Try again in {exceeded.retry_after_s} s."
    return ApiError(
        429,
        message,
        type="insufficient_quota" if of_day else None,
        code="insufficient_quota" if of_day else "rate_limit_exceeded",
        retry_after_s=exceeded.retry_after_s,
        limit=exceeded.limit,
        is_final=of_day or exceeded.retry_after_s is None,
    )


def router_stopped() -> ApiError:
    """Returns the error for a request that was not answered in a router's time to drain."""
    return ApiError(
        503,
        "This router was stopped before the answer was complete. Send the request again.",
        code="router_stopped",
        retry_after_s=1,
    )


def replicas_failed(model: str, retry_after_s: int) -> ApiError:
    return ApiError(
        503,
        f"All replicas of '{model}' that were tried failed. Try again in {retry_after_s} s.",
        code="replicas_failed",
        retry_after_s=retry_after_s,
    )


def stream_broken(why: str) -> ApiError:
    """Returns the error that ends a broken stream; `why` says why no replica continued it."""
    return ApiError(
        502,
        f"The replica failed during this answer, and {why}. The answer above is incomplete; send "
        "the request again.",
        code="replica_failed",
    )


def of_engine(status: int, body: bytes) -> ApiError:
    """Returns an engine's error in the router's form, whichever layer of vLLM or which other server
    it comes from: codes are words or null, parameters have the names that the client used, and a
    prompt that is too long is told as OpenAI tells it."""
    try:
        answer = json.loads(body)
        error = answer.get("error") or answer["detail"]
        if isinstance(error, str):  # LM Studio, FastAPI
            error = {"message": error}
        message, code, param = str(error["message"]), error.get("code"), error.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(status, f"The engine answered with status {status}.")
    if _TRACE in message:
        message = message.split("\n", 1)[0]
    code = code if isinstance(code, str) else None
    if (too_long := context_length.in_openais_words(message)) is not None:
        message, code = too_long, code or context_length.CODE
    return ApiError(
        status,
        message,
        code=code,
        param=param.removeprefix("body.") if isinstance(param, str) else None,
    )


def key_rejected(status: int) -> ApiError:
    """Returns the error for a model whose external server rejects the router's key."""
    return ApiError(
        502,
        f"The server that runs this model answers the router with status {status}: the key in the "
        "environment variable that the model's api_key_env names is missing or wrong.",
        code="backend_key_rejected",
    )


def no_answer() -> ApiError:
    """Returns the error for a stream that an external server ended without an event."""
    return ApiError(
        502,
        "The server that runs this model ended the stream without an answer; its log has the "
        "reason. A prompt longer than the context that it was started with is one.",
        code="no_answer",
    )


def not_streamed(status: int, body: bytes) -> ApiError:
    """Returns the error for an engine's answer to a request for a stream that is not one: usually
    its own error."""
    if status >= 400:
        return of_engine(status, body)
    message = f"The engine answered with status {status} and no stream."
    return ApiError(502, message, code="no_stream")


def request_failed() -> ApiError:
    """Returns the error for a request that the engine failed on while otherwise healthy."""
    return ApiError(
        500,
        "The engine failed on this request but serves others: the request itself is the likely "
        "cause. Change it before you send it again.",
        code=REQUEST_FAILED,
    )


def crashes_engine(reason: Reason) -> ApiError:
    """Returns the error for a request that ends engines: a 400 if a smaller one would not."""
    is_too_large = reason in ("cuda_out_of_memory", "out_of_memory")
    change = "Send a smaller one." if is_too_large else "Change it before you send it again."
    return ApiError(
        400 if is_too_large else 500,
        f"This request ends the engine that serves it ({_DEATHS[reason]}) and is refused. {change}",
        code=CRASHES_ENGINE,
        is_final=True,
    )


def internal_error() -> ApiError:
    return ApiError(
        500,
        "The router failed to process this request. Its log has the reason by x-request-id.",
        code="internal_error",
    )

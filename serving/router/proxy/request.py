"""A request's body as the router reads it: once, and for nothing but what it needs."""

import datetime
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serving.dispatch import ExpectedOutput
from serving.mistral import Answer, InvalidRequest, normalise
from serving.placement import Work, prefix_of, prompt_parts
from serving.router.http.asgi import Headers
from serving.router.http.errors import ApiError
from serving.router.replicas.model import Model
from serving.router.telemetry.request_record import Rewrite

GENERATING = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
"""Paths whose answers an engine generates."""


class RoutingFields(msgspec.Struct):
    """What routing needs of a request, whatever its endpoint."""

    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    stream: bool | None = None
    prompt_cache_key: Any = None

    @property
    def limit_tokens(self) -> int | None:
        """What the client limits the answer to."""
        return self.max_completion_tokens or self.max_tokens or self.max_output_tokens


@dataclass(slots=True)
class EngineRequest:
    """The body that an engine is sent, and what its answer needs on the way back."""

    body: bytes
    headers: Headers = field(default_factory=list)
    """Of the answer: what was done to the request."""
    answer: Answer | None = None
    """None: the answer passes byte for byte."""
    rewrites: tuple[Rewrite, ...] = ()


_decode = msgspec.json.Decoder().decode


def decode(body: bytes) -> Any:
    """The JSON in `body`. Raises ApiError 400 if it is none."""
    try:
        try:
            return _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _decode_leniently(body, error)
    except RecursionError:
        raise ApiError(400, "The request body is nested too deeply.", code="invalid_json") from None


def _decode_leniently(body: bytes, error: Exception) -> Any:
    """What the engines' own parser takes beyond the standard: half a surrogate pair, NaN."""
    try:
        return json.loads(body)
    except ValueError:
        raise ApiError(
            400, f"The request body is not valid JSON: {error}.", code="invalid_json"
        ) from None


def encode(body: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(body).encode()


def routing_fields(body: Any) -> RoutingFields:
    """The fields that routing needs. Raises ApiError 400 if `body` is no object or has others of
    these names. As lenient as vLLM, which takes "16" for 16.
    """
    try:
        return msgspec.convert(body, RoutingFields, strict=False)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"The request is not valid: {error}.", code="invalid_value") from None


def engine_request(path: str, raw: bytes, body: dict[str, Any], model: Model) -> EngineRequest:
    """The request as the engines of `model` need it; `raw` itself if it needs no change. `body` is
    what `decode` made of `raw`, and is used up. Raises ApiError 400.
    """
    renamed = model.backend is not None and body.get("model") != model.backend.model
    if model.backend is not None and renamed:
        body["model"] = model.backend.model
    if model.rules is None:
        return EngineRequest(encode(body) if renamed else raw)
    try:
        done = normalise(path, body, model.rules, datetime.date.today())
    except InvalidRequest as error:
        raise ApiError(400, error.message, code=error.code, param=error.param) from None
    request = EngineRequest(encode(body) if done.changed or renamed else raw)
    if done.changed:
        request.rewrites = ("normalised",)
    if done.max_tokens_clamped is not None:
        request.rewrites += ("max_tokens_clamped",)
        request.headers.append((b"x-max-tokens-clamped", b"%d" % done.max_tokens_clamped))
    if done.warnings:
        request.rewrites += ("warned",)
        request.headers.append((b"x-request-warnings", "; ".join(done.warnings).encode()))
    if done.answer:
        request.answer = Answer(done.answer)
    return request


def work_of(
    path: str,
    fields: RoutingFields,
    body: dict[str, Any],
    model: Model,
    expected_output: ExpectedOutput,
    headers: Headers,
) -> Work:
    """What a request asks of a replica; `body` as the engine gets it."""
    prefix = prefix_of(prompt_parts(path, body, model.tools_first))
    output_tokens = 0
    if path in GENERATING:
        output_tokens = expected_output.tokens(fields.limit_tokens) * max(fields.n or 1, 1)
    return Work(
        prefix,
        prefix.tokens if output_tokens else 0,
        output_tokens,
        session=session(fields, headers),
        streamed=bool(fields.stream),
    )


def session(fields: RoutingFields, headers: Headers) -> str | None:
    """Of the client's own choosing."""
    for name, value in headers:
        if name == b"x-session-id":
            return value.decode("latin-1")
    return fields.prompt_cache_key if isinstance(fields.prompt_cache_key, str) else None

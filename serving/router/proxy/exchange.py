"""A parsed request and its client, on the way to a replica."""

from dataclasses import dataclass, field
from typing import Any

from mmh3 import hash64
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from serving.adapters.adapter import Adapter
from serving.asgi import Headers
from serving.dispatch import Request
from serving.engine_protocol import ADAPTER, CACHE_SALT, RESUMPTION, USAGE_ID, bearer
from serving.placement import Work
from serving.router.http import authentication_errors, errors
from serving.router.http.asgi import id_headers
from serving.router.http.errors import ApiError, is_anthropics
from serving.router.ledger.open_entry import OpenEntry
from serving.router.proxy.adapter_version import VERSION, version_for
from serving.router.proxy.cache_salt import CacheSalt, CacheSalts
from serving.router.proxy.request import (
    EngineRequest,
    engine_request,
    routing_fields,
    session,
    work_of,
)
from serving.router.proxy.request_headers import InvalidHeaderError, priority_and_timeout_s
from serving.router.proxy.stream_resumption import StreamResumption
from serving.router.replicas.backend import Backend
from serving.router.replicas.directory import Directory
from serving.router.replicas.replica import Replica
from serving.router.replicas.served_model import ServedModel
from serving.router.responses.background import BackgroundRun
from serving.router.responses.turn import Turn
from serving.router.telemetry.latency import StreamClock
from serving.router.telemetry.request_record import RequestRecord
from serving.tenants import DEFAULT, Caller

# Hop-by-hop headers (RFC 9110, 7.6.1), those that the router sets anew, and credentials between the
# client and the router.
_HEADERS_DROPPED = frozenset(
    b"connection keep-alive proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade host content-length content-encoding expect authorization accept-encoding x-api-key "
    b"api-key cookie x-request-id".split()
) | {ADAPTER, VERSION, CACHE_SALT, RESUMPTION, USAGE_ID}

_NAMED_ADAPTERS = 20
"""The most adapters that the error of an unknown model lists; all are in /v1/models."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    replica: Replica
    answers: int
    """The number of requests that the replica had answered by then."""
    begun: bool
    """Whether the client had the beginning of the answer by then."""


@dataclass(eq=False, slots=True)
class Exchange:
    """A request to the model `served` and the client that waits for the answer."""

    served: ServedModel
    head: bytes
    """The request line and headers for the engine, without content-length."""
    request: EngineRequest
    demand: Request
    """The request as the dispatcher sees it."""
    headers: Headers
    """Response headers to send in addition to the engine's."""
    receive: Receive
    send: Send
    resumption: StreamResumption
    record: RequestRecord
    clock: StreamClock
    began_s: float
    """The arrival time of the request, by time.monotonic()."""
    adapter: Adapter | None = None
    """The adapter that the request asks for, in the version that it has begun with."""
    turn: Turn | None = None
    """What a request to /v1/responses has stored, where responses are stored."""
    run: BackgroundRun | None = None
    """The response in the background in place of a client that waits."""
    usage: OpenEntry | None = None
    """The request's entry in the usage ledger; None if there is no ledger, or at endpoints that
    generate nothing."""
    begun: bool = False
    """Whether a replica has begun the answer. The client may have the head of the response, and
    comments, before that."""
    failures: int = 0
    """How many attempts failed in a way that the request itself may have caused."""
    sent_s: float = 0.0
    """When it was last sent to a replica, by time.monotonic()."""
    handed_over: bool = False
    """Whether its last replica drains, and the next one is to continue the stream."""
    suspect: bytes | None = None
    """Its digest while it is tried as the suspect of an engine's death."""
    failed_attempts: list[FailedAttempt] = field(default_factory=list)
    """Those at replicas that were not known to be unhealthy."""

    @property
    def prompt(self) -> int:
        """A hash of the whole prompt and, if it is salted, of its tenant."""
        hashes = self.demand.work.prefix.hashes
        return hashes[-1] if hashes else 0

    @property
    def shape(self) -> int:
        """A hash of the lengths of the prompt's parts, which requests that are the same have in
        common, whoever sends them. It is the same in all processes."""
        return hash(tuple(self.demand.work.prefix.ends_tokens))


class ExchangeReader:
    """Parses request bodies and prepares them for the models' engines."""

    def __init__(
        self, directory: Directory, engine_token: str, salts: CacheSalts, default_priority: int
    ) -> None:
        self._directory = directory
        self._salts = salts
        self._authorization = b"authorization: " + bearer(engine_token) + b"\r\n"
        self._default_priority = default_priority

    def read(
        self,
        scope: Scope,
        raw: bytes,
        body: Any,
        caller: Caller,
        receive: Receive,
        send: Send,
        record: RequestRecord,
        began_s: float,
        turn: Turn | None = None,
    ) -> Exchange:
        """Parses a request and records its properties in `record`. `body` is `raw` decoded, or
        what `turn` has made of it. Raises ApiError."""
        path, headers = scope["path"], scope["headers"]
        fields = routing_fields(body)
        served, adapter = self._asked_for(fields.model, caller)
        model = served.model
        record.model, record.stream = model.model_id, bool(fields.stream)
        if adapter is not None:
            key = session(fields, headers) or record.request_id
            adapter = version_for(adapter, headers, key)
            record.adapter, record.adapter_version = adapter.name, adapter.version.digest
            record.canary = adapter.is_canary
        request = engine_request(path, raw, body, model, turn, headers)
        record.rewrites = request.rewrites
        salt = self._salts.of(caller.tenant.name)
        work = work_of(
            path,
            fields,
            body,
            model,
            served.dispatcher.expected_output,
            headers,
            salt.seed,
            "" if adapter is None else adapter.version.digest,
        )
        if record.batch_id is not None:
            work = replace(work, background=True)
        record.prompt_tokens = work.prompt_tokens
        request_id = engine_request_id = record.request_id.encode()
        if turn is not None and turn.engine_request_id is not None:
            engine_request_id = turn.engine_request_id.encode()
        why_not = "no other replica has the model"
        if model.backend is None:
            why_not = "" if work.streamed else "no stream was asked for"
        return Exchange(
            served=served,
            head=self._head(scope, engine_request_id, model.backend, salt) + header_of(adapter),
            request=request,
            demand=self._demand(work, caller, headers, hash64(raw)[0] ^ salt.seed),
            headers=[
                *id_headers(request_id, is_anthropics(path)),
                *_told_of(adapter),
                *request.headers,
            ],
            receive=receive,
            send=send,
            resumption=StreamResumption(path, request.body, why_not),
            record=record,
            clock=StreamClock(began_s, served.metrics.ttft, served.metrics.itl),
            began_s=began_s,
            adapter=adapter,
            turn=turn,
        )

    def _asked_for(self, name: str | None, caller: Caller) -> tuple[ServedModel, Adapter | None]:
        """Returns what a request's model is, an adapter or a model itself. An adapter of other
        tenants does not exist. Raises ApiError."""
        if name is not None and (found := self._directory.find_adapter(name)) is not None:
            served, adapter = found
            if adapter.declared.may_be_used_by(caller.tenant.name):
                if not caller.may_use(adapter.declared.names):
                    raise authentication_errors.model_not_allowed(name)
                return served, adapter
        return self._served(name, caller), None

    def _served(self, name: str | None, caller: Caller) -> ServedModel:
        models = self._directory.models
        if caller.models is not None:
            models = {id: of for id, of in models.items() if caller.may_use(of.model.names)}
        if name is None:
            if len(models) != 1:
                raise ApiError(
                    400,
                    f"The request names no model. Available models: {', '.join(models)}.",
                    code="missing_required_parameter",
                    param="model",
                )
            return next(iter(models.values()))
        served = self._directory.find(name)
        if served is None:
            adapters = self._directory.adapters_of(caller.tenant.name)
            known = [one.name for _, one in adapters if caller.may_use(one.declared.names)]
            raise errors.unknown_model(name, [*models, *known[:_NAMED_ADAPTERS]])
        if served.model.model_id not in models:
            raise authentication_errors.model_not_allowed(name)
        return served

    def _demand(self, work: Work, caller: Caller, headers: Headers, key: int) -> Request:
        try:
            priority, timeout_s = priority_and_timeout_s(
                headers, self._default_priority, caller.max_priority
            )
        except InvalidHeaderError as error:
            raise ApiError(400, str(error), code="invalid_header", param=error.header) from None
        tenant = caller.tenant
        name = "" if tenant is DEFAULT else tenant.name
        return Request(work, priority, timeout_s, key, name, tenant.weight)

    def _head(
        self, scope: Scope, request_id: bytes, backend: Backend | None, salt: CacheSalt
    ) -> bytes:
        path: bytes = scope["raw_path"]
        host, authorization = b"engine", self._authorization
        if backend is not None:
            path, host = backend.path(scope["path"]), backend.host_header
            authorization = backend.authorization
            salt = CacheSalt()
        if scope["query_string"]:
            path += b"?" + scope["query_string"]
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (scope["method"].encode(), path, host)]
        dropped = _HEADERS_DROPPED
        if named := headers_of_this_hop(scope["headers"]):
            dropped |= named
        lines += [
            b"%b: %b\r\n" % (name, value) for name, value in scope["headers"] if name not in dropped
        ]
        lines.append(authorization)
        lines.append(b"x-request-id: %b\r\n%b" % (request_id, salt.header))
        return b"".join(lines)


def header_of(adapter: Adapter | None) -> bytes:
    """Returns the line that names an adapter to engines."""
    return b"" if adapter is None else b"%b: %b\r\n" % (ADAPTER, adapter.version.digest.encode())


def _told_of(adapter: Adapter | None) -> Headers:
    """Returns the response header that names the version of an adapter."""
    return [] if adapter is None else [(VERSION, adapter.version.digest.encode())]


def kept_headers(headers: Headers, exchange: Exchange) -> Headers:
    """Returns the headers with which a request can be sent again, to the same version of its
    adapter: no credentials."""
    kept = [(name, value) for name, value in headers if name not in _HEADERS_DROPPED]
    request_id = exchange.record.request_id.encode()
    return [*kept, (b"x-request-id", request_id), *_told_of(exchange.adapter)]


def headers_of_this_hop(headers: Headers) -> frozenset[bytes]:
    """Returns the names that the `Connection` headers list."""
    named: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name == b"connection" and value != b"keep-alive":
            named |= {token.strip().lower() for token in value.split(b",")}
    return named

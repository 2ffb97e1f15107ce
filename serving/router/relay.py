"""Relays a request to an engine replica and its answer back, byte for byte."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from serving.router import errors
from serving.router.backend import Backend
from serving.router.directory import Directory, Model, Replica
from serving.router.errors import ApiError
from serving.router.request import (
    EngineRequest,
    Headers,
    decode,
    engine_request,
    routing_fields,
)
from serving.router.upstream import Connection, UpstreamError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ENGINE_UNAVAILABLE = b"x-engine-unavailable"
"""On a 503 of an engine that took nothing of the request (it drains, or vLLM died)."""

log = logging.getLogger(__name__)

# Of this hop only (RFC 9110, 7.6.1), set anew by the router, or a secret between it and the client.
_REQUEST_HEADERS_DROPPED = frozenset(
    b"connection keep-alive proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade host content-length expect authorization accept-encoding x-api-key api-key cookie "
    b"x-request-id".split()
)
_RESPONSE_HEADERS_DROPPED = frozenset(
    b"connection keep-alive transfer-encoding server date x-request-id".split()
)
_REQUEST_ID_BYTES = 128


class ClientGoneError(Exception):
    """The client closed its connection before the answer was complete."""


@dataclass(slots=True)
class Exchange:
    """A request on its way to a replica of `model`, and the client that waits for the answer."""

    model: Model
    head: bytes
    request: EngineRequest
    work_tokens: int
    headers: Headers
    """Of the answer, beside the engine's own."""
    receive: Receive
    send: Send


class Relay:
    """The ASGI application for the endpoints that engines answer."""

    def __init__(
        self,
        directory: Directory,
        engine_token: str,
        *,
        max_body_bytes: int,
        replica_hold_off_s: float,
        startup_s: int,
    ) -> None:
        self.requests_in_flight = 0
        self._directory = directory
        self._authorization = b"authorization: Bearer " + engine_token.encode() + b"\r\n"
        self._max_body_bytes = max_body_bytes
        self._replica_hold_off_s = replica_hold_off_s
        self.startup_s = startup_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = client_request_id(scope["headers"])
        id_header = (b"x-request-id", request_id)
        self.requests_in_flight += 1
        try:
            body = await read_body(scope["headers"], receive, self._max_body_bytes)
            await self._relay(self._exchange(scope, body, request_id, receive, send))
        except ApiError as error:
            await send_error(send, error, id_header)
        except ClientGoneError:
            pass
        except Exception:
            log.exception("request %s failed in the router", request_id.decode())
            await send_error(send, errors.internal_error(), id_header)
        finally:
            self.requests_in_flight -= 1

    def _exchange(
        self, scope: Scope, raw: bytes, request_id: bytes, receive: Receive, send: Send
    ) -> Exchange:
        """Reads the body and makes of it what the model's engines need. Raises ApiError."""
        body = decode(raw)
        fields = routing_fields(body)
        model = self._model(fields.model)
        request = engine_request(scope["path"], raw, body, model)
        return Exchange(
            model=model,
            head=self._head(scope, request_id, len(request.body), model.backend),
            request=request,
            work_tokens=fields.work_tokens(len(raw)),
            headers=[(b"x-request-id", request_id), *request.headers],
            receive=receive,
            send=send,
        )

    def _model(self, name: str | None) -> Model:
        models = self._directory.models
        if name is None:
            if len(models) > 1:
                raise ApiError(
                    400,
                    f"The request names no model. Models here: {', '.join(models)}.",
                    code="missing_required_parameter",
                    param="model",
                )
            return next(iter(models.values()))
        model = self._directory.find(name)
        if model is None:
            raise errors.unknown_model(name, list(models))
        return model

    def _head(
        self, scope: Scope, request_id: bytes, body_bytes: int, backend: Backend | None
    ) -> bytes:
        path: bytes = scope["raw_path"]
        host, authorization = b"engine", self._authorization
        if backend is not None:
            path, host = backend.path(scope["path"]), backend.host_header
            authorization = backend.authorization
        if scope["query_string"]:
            path += b"?" + scope["query_string"]
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (scope["method"].encode(), path, host)]
        dropped = _REQUEST_HEADERS_DROPPED
        if named := headers_of_this_hop(scope["headers"]):
            dropped |= named
        lines += [
            b"%b: %b\r\n" % (name, value) for name, value in scope["headers"] if name not in dropped
        ]
        lines.append(authorization)
        lines.append(b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (request_id, body_bytes))
        return b"".join(lines)

    async def _relay(self, exchange: Exchange) -> None:
        """Asks one replica after the other until the client has an answer."""
        watch = asyncio.ensure_future(disconnected(exchange.receive))
        this_task = asyncio.current_task()
        assert this_task is not None
        watch.add_done_callback(lambda _: this_task.cancel() if not finished else None)
        finished = False
        tried: list[Replica] = []
        try:
            while True:
                replica = exchange.model.place(tried, time.monotonic(), self._replica_hold_off_s)
                if replica is None:
                    raise self._unplaced(exchange.model, tried)
                tried.append(replica)
                replica.load.book(exchange.work_tokens)
                try:
                    if await self._attempt(replica, exchange):
                        return
                finally:
                    replica.load.release(exchange.work_tokens)
                replica.failed_at_s = time.monotonic()
        except asyncio.CancelledError:
            if watch.done():
                raise ClientGoneError from None
            raise
        finally:
            finished = True
            watch.cancel()

    def _unplaced(self, model: Model, tried: list[Replica]) -> ApiError:
        if tried:
            return errors.replicas_failed(model.model_id, max(1, int(self._replica_hold_off_s)))
        return errors.no_replica(model.model_id, self.startup_s)

    async def _attempt(self, replica: Replica, exchange: Exchange) -> bool:
        """Sends the request to `replica`. True: the client has an answer; False: it has no byte of
        one, and another replica may be asked.
        """
        connection: Connection | None = None
        try:
            connection = await replica.pool.request(exchange.head, exchange.request.body)
            if took_nothing(connection):
                return False
            headers = [h for h in connection.headers if h[0] not in _RESPONSE_HEADERS_DROPPED]
            headers += (*exchange.headers, replica.id_header)
            if is_event_stream(headers):
                await self._stream(connection, headers, replica, exchange)
            else:
                await self._whole(connection, headers, exchange)
            return True
        except UpstreamError as error:
            log.warning("replica %s: %s", replica.info.replica_id, error)
            return False
        finally:
            if connection is not None:
                replica.pool.release(connection)

    async def _whole(self, connection: Connection, headers: Headers, exchange: Exchange) -> None:
        body = await read_all(connection)
        if exchange.request.answer is not None:
            body = exchange.request.answer.whole(body, connection.status)
            headers = [header for header in headers if header[0] != b"content-length"]
            headers.append((b"content-length", b"%d" % len(body)))
        await send_response(exchange.send, connection.status, headers, body)

    async def _stream(
        self, connection: Connection, headers: Headers, replica: Replica, exchange: Exchange
    ) -> None:
        """Passes the stream on. If it breaks, the client gets an error event and then a connection
        that closes without the stream's proper end, so that it cannot look complete.
        """
        answer, send = exchange.request.answer, exchange.send
        chunk = await connection.read()
        await send({"type": "http.response.start", "status": connection.status, "headers": headers})
        try:
            while chunk:
                body = chunk if answer is None else answer.feed(chunk)
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                chunk = await connection.read()
        except UpstreamError as error:
            log.warning("replica %s: stream broken: %s", replica.info.replica_id, error)
            event = errors.stream_broken().event()
            if answer is None and not chunk.endswith(b"\n\n"):
                event = b"\n\n" + event
            await send({"type": "http.response.body", "body": event, "more_body": True})
            return
        await send({"type": "http.response.body", "body": b"" if answer is None else answer.end()})


async def read_body(headers: Headers, receive: Receive, limit_bytes: int) -> bytes:
    """The request's whole body. Raises ApiError 413 as soon as it is known to be over the limit,
    ClientGoneError if the client leaves while sending it.
    """
    for name, value in headers:
        if name == b"content-length" and int(value) > limit_bytes:
            raise errors.body_too_large(limit_bytes)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise errors.body_too_large(limit_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_all(connection: Connection) -> bytes:
    pieces = []
    while piece := await connection.read():
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, id_header: tuple[bytes, bytes]) -> None:
    body = error.body()
    headers = [*error.headers, (b"content-length", b"%d" % len(body)), id_header]
    await send_response(send, error.status, headers, body)


def took_nothing(connection: Connection) -> bool:
    """The engine refused: it is not available, or (401) not of this router's cluster any more."""
    return connection.status == 401 or (
        connection.status == 503
        and any(name == ENGINE_UNAVAILABLE for name, _ in connection.headers)
    )


def headers_of_this_hop(headers: Headers) -> frozenset[bytes]:
    """The names of those that `Connection` lists."""
    for name, value in headers:
        if name == b"connection" and value != b"keep-alive":
            return frozenset(token.strip().lower() for token in value.split(b","))
    return frozenset()


def is_event_stream(headers: Headers) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )


def client_request_id(headers: Headers) -> bytes:
    """The client's x-request-id if it is printable and at most 128 bytes long, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and 0 < len(value) <= _REQUEST_ID_BYTES:
            if all(33 <= byte <= 126 for byte in value):
                return value
            break
    return uuid.uuid4().hex.encode()

"""Relays a request to an engine replica and its answer back, byte for byte."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from serving.router import errors
from serving.router.backend import Backend
from serving.router.directory import Directory, Model, Replica
from serving.router.errors import ApiError
from serving.router.recovery import NotContinuedError, Recovery, obstacle
from serving.router.request import (
    EngineRequest,
    Headers,
    decode,
    engine_request,
    routing_fields,
)
from serving.router.retry_budget import RetryBudget
from serving.router.upstream import Connection, NotTakenError, UpstreamError, read_all

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ENGINE_UNAVAILABLE = b"x-engine-unavailable"
"""On a 503 of an engine that gave nothing of an answer: it is draining, or vLLM is dead."""

log = logging.getLogger(__name__)

# Of this hop only (RFC 9110, 7.6.1), or set anew by the router.
_REQUEST_HEADERS_DROPPED = frozenset(
    b"connection keep-alive proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade host content-length expect authorization accept-encoding x-api-key "
    b"x-request-id".split()
)
_RESPONSE_HEADERS_DROPPED = frozenset(
    b"connection keep-alive transfer-encoding server date x-request-id".split()
)
_REQUEST_ID_BYTES = 128

_MAX_RETRIES = 3
"""Of work that a replica had begun: a request that itself makes engines fail must not go round."""


class ClientGoneError(Exception):
    """The client closed its connection before the answer was complete."""


@dataclass(slots=True)
class Exchange:
    """A request on its way to a replica of `model`, and the client that waits for the answer."""

    model: Model
    head: bytes
    """All of it but the content-length."""
    request: EngineRequest
    work_tokens: int
    headers: Headers
    """Of the answer, beside the engine's own."""
    receive: Receive
    send: Send
    recovery: Recovery
    begun: bool = False
    """The client has the head of the answer."""


class Relay:
    """The ASGI application for the endpoints that engines answer."""

    def __init__(
        self,
        directory: Directory,
        engine_token: str,
        *,
        max_body_bytes: int,
        retry_after_s: int,
        startup_s: int,
    ) -> None:
        self.requests_in_flight = 0
        self._directory = directory
        self._authorization = b"authorization: Bearer " + engine_token.encode() + b"\r\n"
        self._max_body_bytes = max_body_bytes
        self._retry_after_s = retry_after_s
        self._budget = RetryBudget()
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
        path = scope["path"]
        why_not = "no other replica has the model"
        if model.backend is None:
            why_not = obstacle(path, body) if body.get("stream") else "no stream was asked for"
        return Exchange(
            model=model,
            head=self._head(scope, request_id, model.backend),
            request=request,
            work_tokens=fields.work_tokens(len(raw)),
            headers=[(b"x-request-id", request_id), *request.headers],
            receive=receive,
            send=send,
            recovery=Recovery(path, request.body, why_not),
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

    def _head(self, scope: Scope, request_id: bytes, backend: Backend | None) -> bytes:
        path: bytes = scope["raw_path"]
        host, authorization = b"engine", self._authorization
        if backend is not None:
            path, host = backend.path(scope["path"]), backend.host_header
            authorization = backend.authorization
        if scope["query_string"]:
            path += b"?" + scope["query_string"]
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (scope["method"].encode(), path, host)]
        lines += [
            b"%b: %b\r\n" % (name, value)
            for name, value in scope["headers"]
            if name not in _REQUEST_HEADERS_DROPPED
        ]
        lines.append(authorization)
        lines.append(b"x-request-id: %b\r\n" % request_id)
        return b"".join(lines)

    async def _relay(self, exchange: Exchange) -> None:
        """Asks one replica after the other until the client has an answer."""
        watch = asyncio.ensure_future(disconnected(exchange.receive))
        this_task = asyncio.current_task()
        assert this_task is not None
        watch.add_done_callback(lambda _: this_task.cancel() if not finished else None)
        finished = False
        try:
            await self._answer(exchange)
        except asyncio.CancelledError:
            if watch.done():
                raise ClientGoneError from None
            raise
        finally:
            finished = True
            watch.cancel()

    async def _answer(self, exchange: Exchange) -> None:
        """Asks one replica after the other until the client has the whole answer. What cannot be
        completed ends with an error event, and a connection that closes without its proper end.
        """
        self._budget.request()
        tried: list[Replica] = []
        retries = 0
        while (replica := exchange.model.place(tried)) is not None:
            tried.append(replica)
            replica.load.book(exchange.work_tokens)
            replica.health.watch()
            try:
                await self._attempt(replica, exchange)
                replica.health.answered()
                return
            except UpstreamError as error:
                log.warning("replica %s: %s", replica.info.replica_id, error)
                if not isinstance(error, NotContinuedError):
                    replica.health.failed()
                if exchange.begun and await self._ended(exchange):
                    return
                if not isinstance(error, NotTakenError):
                    retries += 1
                    if retries > _MAX_RETRIES or not self._budget.take():
                        break
            finally:
                replica.load.release(exchange.work_tokens)
        if not exchange.begun:
            raise self._unplaced(exchange.model, tried)
        await self._break_off(exchange, "no other replica could go on with it")

    def _unplaced(self, model: Model, tried: list[Replica]) -> ApiError:
        if tried:
            return errors.replicas_failed(model.model_id, self._retry_after_s)
        return errors.no_replica(model.model_id, self.startup_s)

    async def _attempt(self, replica: Replica, exchange: Exchange) -> None:
        """Has `replica` answer, or go on with the answer. Raises UpstreamError if another may."""
        body = exchange.request.body
        if exchange.begun:
            questions = exchange.recovery.questions()
            tokens = [await self._tokens(replica, question) for question in questions]
            body = exchange.recovery.request_rest(tokens)
        head = b"%bcontent-length: %d\r\n\r\n" % (exchange.head, len(body))
        connection = await replica.pool.request(head, body)
        try:
            check_taken(connection)
            headers = [h for h in connection.headers if h[0] not in _RESPONSE_HEADERS_DROPPED]
            headers += (*exchange.headers, replica.id_header)
            if is_event_stream(headers):
                await self._stream(connection, headers, exchange)
            elif exchange.begun:
                raise NotContinuedError(f"it answers {connection.status} to the rest of a request")
            else:
                await self._whole(connection, headers, exchange)
        finally:
            replica.pool.release(connection)

    async def _tokens(self, replica: Replica, question: bytes) -> list[int]:
        """What the engine's /tokenize makes of a text. Raises UpstreamError."""
        head = b"POST /tokenize HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n"
        head += b"%bcontent-length: %d\r\n\r\n" % (self._authorization, len(question))
        connection = await replica.pool.request(head, question)
        try:
            check_taken(connection)
            body = await read_all(connection)
        finally:
            replica.pool.release(connection)
        if connection.status != 200:
            raise NotContinuedError(f"it answers {connection.status} to /tokenize")
        tokens: list[int] = decode(body)["tokens"]
        return tokens

    async def _whole(self, connection: Connection, headers: Headers, exchange: Exchange) -> None:
        body = await read_all(connection)
        if exchange.request.answer is not None:
            body = exchange.request.answer.whole(body, connection.status)
            headers = [header for header in headers if header[0] != b"content-length"]
            headers.append((b"content-length", b"%d" % len(body)))
        await send_response(exchange.send, connection.status, headers, body)

    async def _stream(self, connection: Connection, headers: Headers, exchange: Exchange) -> None:
        """Passes the stream on, from the answer's beginning or from where it stopped."""
        recovery, answer, send = exchange.recovery, exchange.request.answer, exchange.send
        start = {"type": "http.response.start", "status": connection.status, "headers": headers}
        while piece := await connection.read():
            piece = recovery.feed(piece)
            if piece and not exchange.begun:
                await send(start)
                exchange.begun = True
            if answer is not None:
                piece = answer.feed(piece)
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not exchange.begun:
            await send(start)
        await self._end(exchange, recovery.end())

    async def _end(self, exchange: Exchange, rest: bytes) -> None:
        """Sends `rest` of an engine's stream and ends the answer as complete."""
        if exchange.request.answer is not None:
            rest = exchange.request.answer.feed(rest) + exchange.request.answer.end()
        await exchange.send({"type": "http.response.body", "body": rest})

    async def _ended(self, exchange: Exchange) -> bool:
        """Ends an answer whose stream broke, unless another replica may go on with it."""
        missing = exchange.recovery.broken()
        if missing is not None:
            await self._end(exchange, missing)
        elif exchange.recovery.obstacle:
            await self._break_off(exchange, exchange.recovery.obstacle)
        return missing is not None or bool(exchange.recovery.obstacle)

    async def _break_off(self, exchange: Exchange, why: str) -> None:
        event = errors.stream_broken(why).event()
        if exchange.request.answer is None and exchange.recovery.within_event:
            event = b"\n\n" + event
        await exchange.send({"type": "http.response.body", "body": event, "more_body": True})


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


def check_taken(connection: Connection) -> None:
    """Raises NotTakenError if the engine let nothing in: it drains, or (401) is not of this
    router's cluster any more; UpstreamError if it died, perhaps of this request.
    """
    if connection.status == 401:
        raise NotTakenError("the engine is of another cluster")
    if connection.status == 503:
        for name, why in connection.headers:
            if name == ENGINE_UNAVAILABLE:
                error = UpstreamError if why == b"dead" else NotTakenError
                raise error(f"the engine is {why.decode()}")


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

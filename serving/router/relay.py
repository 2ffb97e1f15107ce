"""Relays a request to an engine replica and its answer back, byte for byte."""

import asyncio
import logging
import re

from serving.config import RouterConfig
from serving.router import errors
from serving.router.asgi import (
    ClientGoneError,
    Headers,
    Receive,
    Scope,
    Send,
    client_request_id,
    disconnected,
    read_body,
    send_error,
    send_response,
)
from serving.router.directory import Directory
from serving.router.errors import ApiError
from serving.router.exchange import Exchange, ExchangeReader
from serving.router.recovery import NotContinuedError
from serving.router.replica import Replica
from serving.router.request import decode
from serving.router.retry_budget import RetryBudget
from serving.router.served_model import Place
from serving.router.upstream import Connection, NotTakenError, UpstreamError, read_all

ENGINE_UNAVAILABLE = b"x-engine-unavailable"
"""On a 503 of an engine that gave nothing of an answer: it is draining, or vLLM is dead."""

log = logging.getLogger(__name__)

_RESPONSE_HEADERS_DROPPED = frozenset(
    b"connection keep-alive transfer-encoding server date x-request-id".split()
)

_MAX_RETRIES = 3
"""A request that itself makes engines fail must not go round."""

_USAGE = re.compile(rb'"(?:completion|output)_tokens":\s*(\d{1,9})')
_USAGE_BYTES = 1024
"""Of the end of an answer: where it says how many tokens it has."""


class Relay:
    """The ASGI application for the endpoints that engines answer."""

    def __init__(self, directory: Directory, engine_token: str, config: RouterConfig) -> None:
        self.requests_in_flight = 0
        self._reader = ExchangeReader(directory, engine_token, config.admission.default_priority)
        self._authorization = b"authorization: Bearer " + engine_token.encode() + b"\r\n"
        self._max_body_bytes = int(config.max_body_mib * 1024 * 1024)
        self._retry_after_s = max(1, int(config.replica_hold_off_s))
        self._budget = RetryBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = client_request_id(scope["headers"])
        id_header = (b"x-request-id", request_id)
        self.requests_in_flight += 1
        try:
            body = await read_body(scope["headers"], receive, self._max_body_bytes)
            await self._relay(self._reader.read(scope, body, request_id, receive, send))
        except ApiError as error:
            await send_error(send, error, id_header)
        except ClientGoneError:
            pass
        except Exception:
            log.exception("request %s failed in the router", request_id.decode())
            await send_error(send, errors.internal_error(), id_header)
        finally:
            self.requests_in_flight -= 1

    async def _relay(self, exchange: Exchange) -> None:
        """Has the exchange answered as long as its client is there."""
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
        try:
            while not await self._answered(exchange):
                pass
        except ApiError as error:
            if not exchange.begun:
                raise
            log.warning("an answer is broken off: %s", error.message)
            await self._break_off(exchange, "no other replica could go on with it")

    async def _answered(self, exchange: Exchange) -> bool:
        """Waits for a place and has the replicas answer, as long as there is one that was not
        tried. False if there was none: others, or the same, may be up in a while. Raises ApiError.
        """
        place = await exchange.served.admit(exchange.work, exchange.demand)
        served, output_tokens = False, 0
        try:
            while True:
                replica = place.replica
                replica.health.watch()
                try:
                    await self._attempt(place, exchange)
                    replica.health.answered()
                    served, output_tokens = True, exchange.output_tokens
                    return True
                except asyncio.CancelledError:
                    served = True
                    raise
                except UpstreamError as error:
                    log.warning("replica %s: %s", replica.info.replica_id, error)
                    if not isinstance(error, NotContinuedError):
                        replica.health.failed()
                    if exchange.begun and await self._ended(exchange):
                        return True
                    if not isinstance(error, NotTakenError):
                        self._count_failure(exchange)
                exchange.retries += 1
                if not place.move():
                    self._count_failure(exchange)
                    return False
        finally:
            place.leave(served=served, output_tokens=output_tokens)

    def _count_failure(self, exchange: Exchange) -> None:
        """Raises ApiError if it is not to be asked for again."""
        exchange.failures += 1
        if exchange.failures > _MAX_RETRIES or not self._budget.take():
            raise errors.replicas_failed(exchange.served.model.model_id, self._retry_after_s)

    async def _attempt(self, place: Place, exchange: Exchange) -> None:
        """Has a replica answer, or go on with the answer. Raises UpstreamError if another may."""
        replica = place.replica
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
            headers += (*exchange.headers, *place_headers(place, exchange.retries))
            if is_event_stream(headers):
                await self._stream(connection, headers, exchange, place)
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
        if connection.status == 200 and (usage := _USAGE.search(body[-_USAGE_BYTES:])):
            exchange.output_tokens = int(usage[1])
        if exchange.request.answer is not None:
            body = exchange.request.answer.whole(body, connection.status)
            headers = [header for header in headers if header[0] != b"content-length"]
            headers.append((b"content-length", b"%d" % len(body)))
        await send_response(exchange.send, connection.status, headers, body)

    async def _stream(
        self, connection: Connection, headers: Headers, exchange: Exchange, place: Place
    ) -> None:
        """Passes the stream on, from the answer's beginning or from where it stopped."""
        recovery, answer, send = exchange.recovery, exchange.request.answer, exchange.send
        start = {"type": "http.response.start", "status": connection.status, "headers": headers}
        read = False
        while piece := await connection.read():
            if not read:
                place.first_token()
                read = True
            piece = recovery.feed(piece)
            if piece and not exchange.begun:
                await send(start)
                exchange.begun = True
            exchange.output_tokens += piece.count(b"\n\n")
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


def place_headers(place: Place, retries: int) -> Headers:
    """What a client may know of how its request was placed."""
    return [
        place.replica.id_header,
        (b"x-queue-time-ms", b"%d" % (place.queue_s * 1000)),
        (b"x-expected-cached-tokens", b"%d" % place.expected_cached_tokens),
        (b"x-retries", b"%d" % retries),
    ]


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

"""Relays a request to an engine replica and its answer back, byte for byte."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from serving.asgi import ClientGoneError, Headers, disconnected, send_response
from serving.config import RouterConfig
from serving.dispatch import Outcome, Permit, RateLimiter, Reservation
from serving.engine_protocol import (
    CACHED_TOKENS,
    NOT_RESUMABLE,
    PROMPT_TOKENS,
    RESUMPTION,
    REWRITES,
)
from serving.router.batches.line import SCOPE_KEY as BATCH_LINE
from serving.router.batches.line import BatchLine
from serving.router.http import errors
from serving.router.http.asgi import client_request_id, read_body, send_error
from serving.router.http.authentication import Authentication
from serving.router.http.body_budget import BodyBudget
from serving.router.http.errors import ApiError
from serving.router.http.server import response_of
from serving.router.ledger.ledger import Ledger
from serving.router.proxy.adapting import send_on_adapter
from serving.router.proxy.cache_salt import CacheSalts
from serving.router.proxy.engine_answer import (
    check_key,
    check_taken,
    is_event_stream,
    meant_status,
    reported_number,
    reported_rewrites,
)
from serving.router.proxy.error_event import EngineError
from serving.router.proxy.event_stream import ENDS_WITH_DONE, EventStream
from serving.router.proxy.exchange import Exchange, ExchangeReader
from serving.router.proxy.failures import Failures
from serving.router.proxy.request import GENERATING, decode, merged
from serving.router.proxy.storing import detach, keep_whole, run_in_background
from serving.router.proxy.stream_resumption import NotContinuedError
from serving.router.proxy.suspicion import Suspicion, ends, passes
from serving.router.proxy.tenant_limits import TenantLimiter
from serving.router.proxy.usage import note_usage, spent
from serving.router.proxy.waiting import NOT_BUFFERED, Waiting
from serving.router.replicas.directory import Directory
from serving.router.replicas.replica import Replica
from serving.router.replicas.replica_adapters import AdapterNotLoadedError
from serving.router.replicas.upstream import (
    Connection,
    EngineDeadError,
    NotTakenError,
    UpstreamError,
    read_all,
)
from serving.router.responses.background import SCOPE_KEY as RUN
from serving.router.responses.background import BackgroundRun
from serving.router.responses.responses import PATH as RESPONSES
from serving.router.responses.responses import Responses
from serving.router.responses.turn import refuse_stored
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.request_record import RequestRecord, ms_since

if TYPE_CHECKING:
    from serving.router.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

_RESPONSE_HEADERS_DROPPED = frozenset(
    b"connection keep-alive transfer-encoding server date x-request-id x-replica x-queue-time-ms "
    b"x-expected-cached-tokens x-retries x-accel-buffering".split()
) | {NOT_RESUMABLE, RESUMPTION, REWRITES}


class Relay:
    """The ASGI application for the endpoints that engines answer."""

    def __init__(
        self,
        directory: Directory,
        engine_token: str,
        config: RouterConfig,
        authentication: Authentication,
        limiter: RateLimiter,
        metrics: Metrics,
        write_line: Callable[[bytes], object],
        tracing: "Tracing | None" = None,
        responses: Responses | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """`write_line` is called with the request log line when a request ends. Without `responses`
        none is stored, and without a `ledger` no usage is kept."""
        self.requests_in_flight = 0
        salts = CacheSalts(engine_token, len(authentication.tenants))
        self._reader = ExchangeReader(
            directory, engine_token, salts, config.admission.default_priority
        )
        self._max_body_bytes = int(config.max_body_mib * 1024 * 1024)
        self._bodies = BodyBudget(int(config.max_bodies_mib * 1024 * 1024))
        self._retry_delay_s = config.replica_backoff_s
        self._failures = Failures(max(1, int(config.replica_backoff_s)))
        self._suspicion = Suspicion(engine_token)
        self._waiting = Waiting()
        self._authentication = authentication
        self._limits = TenantLimiter(limiter)
        self._metrics = metrics
        self._write_line = write_line
        self._tracing = tracing
        self._responses = responses
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = time.monotonic()
        request_id = client_request_id(scope["headers"]).decode()
        record = RequestRecord(datetime.now(UTC), request_id, scope["path"])
        span = None if self._tracing is None else self._tracing.begin(scope, record)
        self.requests_in_flight += 1
        exchange: Exchange | None = None
        permit: Permit | None = None
        run: BackgroundRun | None = scope.get(RUN)
        held = self._bodies.hold()
        try:
            line: BatchLine | None = scope.get(BATCH_LINE)
            if line is not None:
                caller, record.batch_id = line.caller, line.batch_id
            elif run is not None and run.caller is not None:
                caller = run.caller
            else:
                caller = await self._authentication.caller(scope)
            is_admitted = line is not None or run is not None
            record.tenant, record.key_id = caller.tenant.name, caller.key_id
            if not is_admitted:
                self._limits.check(caller.tenant, scope["path"])
            body = await read_body(scope["headers"], receive, self._max_body_bytes, held)
            fields, turn = decode(body), None
            is_response = scope["path"] == RESPONSES and isinstance(fields, dict)
            if is_response and self._responses is not None:
                turn = await self._responses.open(caller.tenant.name, body, fields)
                body = turn.raw
                if run is not None:
                    turn.response_id = run.response["id"]
            elif is_response:
                refuse_stored(fields)
            exchange = self._reader.read(
                scope, body, fields, caller, receive, send, record, began_s, turn
            )
            if not is_admitted:
                permit = self._limits.admit(caller.tenant, exchange)
            if run is not None:
                run_in_background(exchange, run)
            elif self._responses is not None and turn is not None and turn.background:
                run = await detach(exchange, self._responses, scope, caller)
                send = exchange.send
            if self._ledger is not None and scope["path"] in GENERATING:
                model = exchange.served.model
                exchange.usage = self._ledger.open(record, model, run is not None)
            await self._relay(exchange)
        except ApiError as error:
            await self._refuse(send, error, record, exchange is not None)
        except ClientGoneError:
            record.outcome = "client_gone"
        except asyncio.CancelledError:
            if run is not None:
                run.leave()
            if run is not None or scope.get(BATCH_LINE) is not None:
                raise
            stopped = errors.router_stopped()
            if exchange is not None and exchange.begun:
                await self._break_off(exchange, stopped)
            else:
                await self._refuse(send, stopped, record, exchange is not None)
        except Exception:
            log.exception("request %s failed in the router", request_id)
            await self._refuse(send, errors.internal_error(), record, exchange is not None)
        finally:
            held.release()
            if run is not None and self._responses is not None:
                await self._responses.runs.end(run)
            self.requests_in_flight -= 1
            if permit is not None:
                self._limits.end(permit, record)
            record.duration_ms = ms_since(began_s)
            self._metrics.ended(record)
            self._write_line(record.line())
            if self._ledger is not None and exchange is not None and exchange.usage is not None:
                self._ledger.end(exchange.usage)
            if self._tracing is not None and span is not None:
                self._tracing.end(span, record)
            if run is not None and run.client is not None:
                await asyncio.wait([run.client])

    async def _refuse(
        self, send: Send, error: ApiError, record: RequestRecord, in_exchange: bool
    ) -> None:
        """Sends the error: in a stream that has begun, if only with comments, as an event. Such a
        stream has no proper end, so that no one takes it for an empty answer."""
        record.failed(error)
        if in_exchange and response_of(send).response_started:
            event = error.event(record.path, record.output_tokens)
            await send({"type": "http.response.body", "body": event, "more_body": True})
            return
        id_header = (b"x-request-id", record.request_id.encode())
        await send_error(send, error, record.path, [id_header, *record.headers()])

    async def _relay(self, exchange: Exchange) -> None:
        """Serves the exchange until the client disconnects."""
        watch = asyncio.ensure_future(disconnected(exchange.receive))
        this_task = asyncio.current_task()
        assert this_task is not None
        watch.add_done_callback(lambda _: this_task.cancel() if not finished else None)
        finished = False
        try:
            if not (exchange.begun and await self._ended(exchange)):
                await self._answer(exchange)
        except asyncio.CancelledError:
            if watch.done():
                raise ClientGoneError from None
            raise
        finally:
            finished = True
            watch.cancel()
            self._waiting.end(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        """Tries one replica after another until the client has the whole answer. An answer that
        cannot be completed ends with an error event and a connection closed without its proper end.
        """
        self._failures.request()
        try:
            while (failed := await self._try_replicas(exchange)) is not None:
                # Without its reservation, so that it holds no headroom meanwhile.
                if failed in exchange.served.replicas and await failed.health.is_well():
                    await asyncio.sleep(self._retry_delay_s)
        except ApiError as error:
            if not exchange.begun:
                raise
            log.warning(
                "request %s: the answer is broken off: %s",
                exchange.record.request_id,
                error.message,
            )
            if error.code != errors.CRASHES_ENGINE:
                error = errors.stream_broken("no other replica could continue it")
            await self._break_off(exchange, error)

    async def _try_replicas(self, exchange: Exchange) -> Replica | None:
        """Waits for a reservation and tries replicas until one answers. Returns None then, and the
        last one that failed if none is left to try, though some may be up again soon. Raises
        ApiError."""
        served, record = exchange.served, exchange.record
        self._waiting.begin(exchange)
        queues_s = time.monotonic()
        try:
            reservation, replica = await self._suspicion.admit(exchange)
        finally:
            record.queued(queues_s)
        if exchange.run is not None and self._responses is not None:
            self._responses.runs.placed(exchange.run)
        outcome, output_tokens = Outcome.FAILED, 0
        try:
            while True:
                replica.health.watch()
                try:
                    await self._attempt(reservation, replica, exchange)
                    self._failures.answered(replica, exchange)
                    outcome, output_tokens = Outcome.SERVED, record.output_tokens
                    return None
                except asyncio.CancelledError:
                    outcome = Outcome.CLIENT_GONE
                    self._suspicion.left(exchange, replica)
                    raise
                except UpstreamError as error:
                    log.warning(
                        "request %s: replica %s: %s",
                        record.request_id,
                        replica.info.replica_id,
                        error,
                    )
                    if isinstance(error, EngineError) and await replica.health.is_well():
                        outcome = Outcome.SERVED
                        await self._fail(exchange)
                        return None
                    self._waiting.begin(exchange)
                    if isinstance(error, AdapterNotLoadedError):
                        replica = self._without_adapter(reservation, exchange)
                        continue
                    self._failures.note(replica, exchange, error)
                    if exchange.begun and await self._ended(exchange):
                        return None
                    begins_anew = await self._suspicion.arises(exchange, replica, error)
                    if not isinstance(error, NotTakenError | EngineDeadError):
                        self._failures.count(exchange)
                    if begins_anew:
                        return replica
                other = served.move(reservation)
                if other is None:
                    if not replica.health.ejected:  # Else it waits for one that is up.
                        self._failures.count(exchange)
                    return replica
                replica = other
        finally:
            ends(exchange)
            served.release(reservation, outcome, output_tokens, spent(record))

    @staticmethod
    def _without_adapter(reservation: Reservation, exchange: Exchange) -> Replica:
        """Returns the replica to try after one that does not load the adapter. Raises ApiError."""
        other = exchange.served.move(reservation)
        if other is None:
            assert exchange.adapter is not None
            raise errors.adapter_not_loaded(exchange.adapter.name)
        return other

    async def _fail(self, exchange: Exchange) -> None:
        """Ends a request that a healthy engine failed on. Raises ApiError if nothing was sent."""
        error = errors.request_failed()
        if not exchange.begun:
            raise error
        exchange.record.failed(error)
        await self._break_off(exchange, error)

    async def _attempt(
        self, reservation: Reservation, replica: Replica, exchange: Exchange
    ) -> None:
        """Has a replica answer, or continue the answer. Raises UpstreamError if another replica may
        try."""
        record = exchange.record
        resumption, body, carried_tokens = exchange.resumption, exchange.request.body, None
        if record.replica is not None:
            record.retries += 1
        if exchange.begun:
            header, body, carried_tokens = resumption.continuation(record.cached_tokens or 0)
        else:
            header = resumption.request_header()
            record.replica = replica.info.replica_id
            record.expected_cached_tokens = reservation.cached_tokens
        exchange.sent_s = time.monotonic()
        connection = await send_on_adapter(
            exchange, replica, partial(self._send, exchange, replica, header, body, carried_tokens)
        )
        try:
            headers = [h for h in connection.headers if h[0] not in _RESPONSE_HEADERS_DROPPED]
            if not exchange.begun:
                record.rewrites = reported_rewrites(connection.headers) or record.rewrites
                reported = reported_number(headers, PROMPT_TOKENS)
                record.input_tokens = record.prompt_tokens or 0 if reported is None else reported
                record.cached_tokens = reported_number(headers, CACHED_TOKENS)
            headers = merged(headers, exchange.headers) + record.headers()
            if is_event_stream(headers):
                if not exchange.begun:
                    resumption.answered(connection.headers)
                    if exchange.run is not None and exchange.run.log is not None:
                        exchange.run.log.begins(resumption.mark, record.cached_tokens or 0)
                await self._stream(connection, headers, exchange, reservation)
            elif exchange.begun:
                raise NotContinuedError(f"it answers {connection.status} to the continuation")
            else:
                await self._whole(connection, headers, exchange)
        finally:
            replica.pool.release(connection)

    async def _send(
        self,
        exchange: Exchange,
        replica: Replica,
        header: bytes,
        body: bytes,
        carried_tokens: int | None,
    ) -> Connection:
        """Sends the request, and returns when the head of the answer has arrived. The answer is
        begun, or continued with `carried_tokens` in the body. Raises UpstreamError."""
        ledger, usage, head = self._ledger, exchange.usage, exchange.head + header
        if ledger is not None and usage is not None:
            head += ledger.sent(usage, replica, carried_tokens)
        head += b"content-length: %d\r\n\r\n" % len(body)
        try:
            connection = await replica.pool.request(head, body)
            try:
                (check_taken if exchange.served.model.backend is None else check_key)(connection)
            except Exception:
                replica.pool.release(connection)
                raise
        except NotTakenError:
            if ledger is not None and usage is not None:
                ledger.not_taken(usage)
            raise
        return connection

    async def _whole(self, connection: Connection, headers: Headers, exchange: Exchange) -> None:
        body, status = await read_all(connection), connection.status
        passes(exchange)
        if exchange.served.model.backend is not None:
            status = meant_status(status, body)
        if status == 200:
            exchange.record.output_tokens = 0
            note_usage(exchange, body)
        if status >= 400:
            body = errors.of_engine(status, body).body(exchange.record.path)
            headers = [header for header in headers if header[0] != b"content-type"]
            headers.append((b"content-type", b"application/json"))
        if exchange.request.answer is not None:
            body = exchange.request.answer.whole(body, status)
        headers = [header for header in headers if header[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % len(body)))
        if self._responses is not None and status == 200:
            await keep_whole(exchange, self._responses, body, headers)
        exchange.record.status = status
        self._waiting.end(exchange)
        if response_of(exchange.send).response_started:
            await self._break_off(exchange, errors.not_streamed(status, body))
        else:
            await send_response(exchange.send, status, headers, body)
        exchange.record.outcome = "answered"

    async def _stream(
        self,
        connection: Connection,
        headers: Headers,
        exchange: Exchange,
        reservation: Reservation,
    ) -> None:
        """Relays the stream, from the beginning of the answer or from where it broke."""
        resumption, record, send = exchange.resumption, exchange.record, exchange.send
        goes_on = exchange.begun
        events = resumption.feed(await connection.read())
        exchange.served.first_token(reservation)
        while not events and (piece := await connection.read()):
            events = resumption.feed(piece)
        self._waiting.end(exchange)
        if events:
            passes(exchange)
        may_end_early = exchange.served.model.backend is not None and record.path in ENDS_WITH_DONE
        if may_end_early and not events:
            raise errors.no_answer()
        if not goes_on:
            record.status = status = connection.status
            if not response_of(send).response_started:
                headers = [header for header in headers if header[0] != b"content-length"]
                headers.append(NOT_BUFFERED)
                await send({"type": "http.response.start", "status": status, "headers": headers})
            exchange.begun = True
        if events and goes_on:
            record.continued += 1
        elif events:
            record.ttft_ms = ms_since(exchange.began_s)
        stream = EventStream(exchange)
        if events:
            stream.send(events)
        try:
            while not await connection.forward(stream.take, stream.take_chunk):
                await send({"type": "http.response.body", "more_body": True})
        finally:
            stream.count()
        if may_end_early and not stream.finished():
            raise UpstreamError("its stream ended before the answer")
        note_usage(exchange, stream.last_events)
        final = stream.final_response()
        if final is not None and exchange.turn is not None and self._responses is not None:
            await self._responses.answered(exchange.turn, final, is_event=True)
        await self._end(exchange, resumption.end())

    async def _end(self, exchange: Exchange, rest: bytes) -> None:
        """Sends `rest` of an engine's stream and ends the answer as complete."""
        if exchange.request.answer is not None:
            rest = exchange.request.answer.feed(rest) + exchange.request.answer.end()
        await exchange.send({"type": "http.response.body", "body": rest})
        exchange.record.outcome = "answered"

    async def _ended(self, exchange: Exchange) -> bool:
        """Ends an answer whose stream broke. Returns False if another replica may continue it."""
        resumption = exchange.resumption
        if complete := resumption.broken():
            await self._end(exchange, b"")
        elif resumption.unresumable_reason:
            await self._break_off(exchange, errors.stream_broken(resumption.unresumable_reason))
        return complete or bool(resumption.unresumable_reason)

    async def _break_off(self, exchange: Exchange, error: ApiError) -> None:
        event = error.event(exchange.record.path, exchange.record.output_tokens)
        if exchange.request.answer is None and exchange.resumption.within_event:
            event = b"\n\n" + event
        await exchange.send({"type": "http.response.body", "body": event, "more_body": True})

"""Tries one replica after another until the client has the whole answer to a request."""

import asyncio
import logging
import time
from functools import partial

from serving.config import RouterConfig
from serving.dispatch import Outcome, Reservation
from serving.engine_protocol import (
    CACHED_TOKENS,
    NOT_RESUMABLE,
    PROMPT_TOKENS,
    RESUMPTION,
    REWRITES,
)
from serving.router.http import errors
from serving.router.http.errors import ApiError
from serving.router.ledger.ledger import Ledger
from serving.router.proxy.adapting import send_on_adapter
from serving.router.proxy.delivery import Delivery
from serving.router.proxy.engine_answer import (
    check_key,
    check_taken,
    is_event_stream,
    reported_number,
    reported_rewrites,
)
from serving.router.proxy.error_event import EngineError
from serving.router.proxy.exchange import Exchange
from serving.router.proxy.failures import Failures
from serving.router.proxy.request import merged
from serving.router.proxy.stream_resumption import NotContinuedError
from serving.router.proxy.suspicion import Suspicion, ends
from serving.router.proxy.usage import spent
from serving.router.proxy.waiting import Waiting
from serving.router.replicas.replica import Replica
from serving.router.replicas.replica_adapters import AdapterNotLoadedError
from serving.router.replicas.upstream import (
    Connection,
    EngineDeadError,
    HandedOverError,
    NotTakenError,
    UpstreamError,
)
from serving.router.responses.responses import Responses

log = logging.getLogger(__name__)


_RESPONSE_HEADERS_DROPPED = frozenset(
    b"connection keep-alive transfer-encoding server date x-request-id request-id x-replica "
    b"x-queue-time-ms x-expected-cached-tokens x-retries x-accel-buffering".split()
) | {NOT_RESUMABLE, RESUMPTION, REWRITES}


class Attempts:
    """The attempts of requests at replicas, from their reservations to their answers' ends."""

    def __init__(
        self,
        config: RouterConfig,
        engine_token: str,
        waiting: Waiting,
        delivery: Delivery,
        responses: Responses | None,
        ledger: Ledger | None,
    ) -> None:
        """Without `responses` none is stored, and without a `ledger` no usage is kept."""
        self._retry_delay_s = config.replica_backoff_s
        self._failures = Failures(max(1, int(config.replica_backoff_s)))
        self._suspicion = Suspicion(engine_token)
        self._waiting = waiting
        self._delivery = delivery
        self._responses = responses
        self._ledger = ledger

    async def answer(self, exchange: Exchange) -> None:
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
            await self._delivery.break_off(exchange, error)

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
                except HandedOverError as error:
                    replica_id = replica.info.replica_id
                    log.info("request %s: replica %s: %s", record.request_id, replica_id, error)
                    self._waiting.begin(exchange)
                    if await self._delivery.ended(exchange):
                        return None
                    exchange.handed_over = True
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
                    if exchange.begun and await self._delivery.ended(exchange):
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
        await self._delivery.break_off(exchange, error)

    async def _attempt(
        self, reservation: Reservation, replica: Replica, exchange: Exchange
    ) -> None:
        """Has a replica answer, or continue the answer. Raises UpstreamError if another replica may
        try."""
        record = exchange.record
        resumption, body, carried_tokens = exchange.resumption, exchange.request.body, None
        if exchange.handed_over:
            record.handed_over += 1
            exchange.handed_over = False
        elif record.replica is not None:
            record.retries += 1
        if exchange.begun:
            header, body, carried_tokens = resumption.continuation(record.cached_tokens or 0)
        else:
            header = resumption.request_header()
            record.replica = replica.info.replica_id
            record.expected_cached_tokens = reservation.cached_tokens
        exchange.sent_s = time.monotonic()
        send = partial(self._send, exchange, replica, header, body, carried_tokens)
        if exchange.demand.work.adapter:
            connection = await send_on_adapter(exchange, replica, send)
        else:
            connection = await send()
        try:
            headers = [h for h in connection.headers if h[0] not in _RESPONSE_HEADERS_DROPPED]
            if not exchange.begun:
                record.rewrites = reported_rewrites(connection.headers) or record.rewrites
                reported = reported_number(headers, PROMPT_TOKENS)
                if reported is None and connection.status < 400:  # a server that does not tell
                    reported = record.prompt_tokens
                record.input_tokens = reported or 0
                record.cached_tokens = reported_number(headers, CACHED_TOKENS)
            headers = merged(headers, exchange.headers) + record.headers()
            if is_event_stream(connection.headers):
                if not exchange.begun:
                    resumption.answered(connection.headers)
                    if exchange.run is not None and exchange.run.log is not None:
                        exchange.run.log.begins(resumption.mark, record.cached_tokens or 0)
                await self._delivery.stream(connection, headers, exchange, reservation, replica)
            elif exchange.begun:
                raise NotContinuedError(f"it answers {connection.status} to the continuation")
            else:
                await self._delivery.whole(connection, headers, exchange)
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

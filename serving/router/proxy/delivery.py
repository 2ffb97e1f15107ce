"""Passes an engine's answer on to the client, byte for byte."""

import time

from serving.asgi import Headers, send_response
from serving.dispatch import Reservation
from serving.router.http import errors
from serving.router.http.errors import ApiError
from serving.router.http.server import response_of
from serving.router.proxy.engine_answer import meant_status
from serving.router.proxy.event_stream import ENDS_WITH_DONE, EventStream
from serving.router.proxy.exchange import Exchange
from serving.router.proxy.storing import keep_whole
from serving.router.proxy.suspicion import passes
from serving.router.proxy.usage import note_usage
from serving.router.proxy.waiting import NOT_BUFFERED, Waiting
from serving.router.replicas.hand_over import RunningStream
from serving.router.replicas.replica import Replica
from serving.router.replicas.upstream import (
    Connection,
    UpstreamError,
    read_all,
)
from serving.router.responses.responses import Responses
from serving.router.telemetry.request_record import ms_since


class Delivery:
    """Sends the client what a connection to an engine brings, and the ends of answers."""

    def __init__(self, waiting: Waiting, responses: Responses | None) -> None:
        """Without `responses` none is stored."""
        self._waiting = waiting
        self._responses = responses

    async def whole(self, connection: Connection, headers: Headers, exchange: Exchange) -> None:
        """Sends an answer that is no stream."""
        body, status = await read_all(connection), connection.status
        passes(exchange)
        if exchange.served.model.backend is not None:
            status = meant_status(status, body)
        if status == 200:
            exchange.record.output_tokens = 0
            note_usage(exchange, body)
        if status >= 400:
            record = exchange.record
            body = errors.of_engine(status, body).body(record.path, record.request_id)
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
            await self.break_off(exchange, errors.not_streamed(status, body))
        else:
            await send_response(exchange.send, status, headers, body)
        exchange.record.outcome = "answered"

    async def stream(
        self,
        connection: Connection,
        headers: Headers,
        exchange: Exchange,
        reservation: Reservation,
        replica: Replica,
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
        running = RunningStream(
            connection,
            reservation.request.work.output_tokens,
            stream.count_tokens,
            lambda: not resumption.unresumable_reason and exchange.served.can_move(reservation),
            record.output_tokens,
            time.monotonic(),
        )
        replica.streams.add(running)
        try:
            while not await connection.forward(stream.take, stream.take_chunk):
                await send({"type": "http.response.body", "more_body": True})
        finally:
            replica.streams.remove(running)
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

    async def ended(self, exchange: Exchange) -> bool:
        """Ends an answer whose stream broke. Returns False if another replica may continue it."""
        resumption = exchange.resumption
        if complete := resumption.broken():
            await self._end(exchange, b"")
        elif resumption.unresumable_reason:
            await self.break_off(exchange, errors.stream_broken(resumption.unresumable_reason))
        return complete or bool(resumption.unresumable_reason)

    async def break_off(self, exchange: Exchange, error: ApiError) -> None:
        """Sends `error` as an event of the stream, and leaves the stream without its proper end."""
        record = exchange.record
        event = error.event(record.path, record.output_tokens, record.request_id)
        if exchange.request.answer is None and exchange.resumption.within_event:
            event = b"\n\n" + event
        await exchange.send({"type": "http.response.body", "body": event, "more_body": True})

"""The ASGI application that relays requests to engines, and accounts for each of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from serving.asgi import ClientGoneError, disconnected
from serving.config import RouterConfig
from serving.dispatch import Permit, RateLimiter
from serving.requests.responses import COUNT_PATH
from serving.router.batches.line import SCOPE_KEY as BATCH_LINE
from serving.router.batches.line import BatchLine
from serving.router.http import errors
from serving.router.http.asgi import client_request_id, read_body, send_error
from serving.router.http.authentication import Authentication
from serving.router.http.body_budget import BodyBudget
from serving.router.http.errors import ApiError
from serving.router.http.server import response_of
from serving.router.ledger.ledger import Ledger
from serving.router.proxy.attempts import Attempts
from serving.router.proxy.cache_salt import CacheSalts
from serving.router.proxy.delivery import Delivery
from serving.router.proxy.exchange import Exchange, ExchangeReader
from serving.router.proxy.request import GENERATING, decode
from serving.router.proxy.storing import detach, run_in_background
from serving.router.proxy.tenant_limits import TenantLimiter
from serving.router.proxy.waiting import Waiting
from serving.router.replicas.directory import Directory
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


class Relay:
    """The ASGI application for the endpoints that engines answer. It finds who asks and what, has
    the request answered, and writes down how that ended."""

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
        salts = CacheSalts(engine_token, len(authentication.tenants))
        self._reader = ExchangeReader(
            directory, engine_token, salts, config.admission.default_priority
        )
        self._max_body_bytes = int(config.max_body_mib * 1024 * 1024)
        self._bodies = BodyBudget(int(config.max_bodies_mib * 1024 * 1024))
        self._waiting = Waiting()
        self._authentication = authentication
        self._limits = TenantLimiter(limiter)
        self._metrics = metrics
        self._write_line = write_line
        self._tracing = tracing
        self._responses = responses
        self._ledger = ledger
        self._delivery = Delivery(self._waiting, responses)
        self._attempts = Attempts(
            config, engine_token, self._waiting, self._delivery, responses, ledger
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = time.monotonic()
        request_id = client_request_id(scope["headers"]).decode()
        record = RequestRecord(datetime.now(UTC), request_id, scope["path"])
        span = None if self._tracing is None else self._tracing.begin(scope, record)
        exchange: Exchange | None = None
        permits: Sequence[Permit] = ()
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
            is_response = scope["path"] in (RESPONSES, COUNT_PATH) and isinstance(fields, dict)
            if is_response and scope["path"] == COUNT_PATH:  # of which nothing is kept
                fields |= {"store": False, "background": False}
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
                permits = self._limits.admit(caller.tenant, exchange)
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
                await self._delivery.break_off(exchange, stopped)
            else:
                await self._refuse(send, stopped, record, exchange is not None)
        except Exception:
            log.exception("request %s failed in the router", request_id)
            await self._refuse(send, errors.internal_error(), record, exchange is not None)
        finally:
            held.release()
            if run is not None and self._responses is not None:
                await self._responses.runs.end(run)
            for permit in permits:
                self._limits.end(permit, record)
            record.duration_ms = ms_since(began_s)
            self._metrics.ended(record)
            if exchange is not None and exchange.adapter is not None:
                exchange.served.count(exchange.adapter, record)
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
            event = error.event(record.path, record.output_tokens, record.request_id)
            await send({"type": "http.response.body", "body": event, "more_body": True})
            return
        await send_error(send, error, record.path, record.request_id, record.headers())

    async def _relay(self, exchange: Exchange) -> None:
        """Serves the exchange until the client disconnects."""
        watch = asyncio.create_task(disconnected(exchange.receive))
        this_task = asyncio.current_task()
        assert this_task is not None
        watch.add_done_callback(lambda _: this_task.cancel() if not finished else None)
        finished = False
        try:
            if not (exchange.begun and await self._delivery.ended(exchange)):
                await self._attempts.answer(exchange)
        except asyncio.CancelledError:
            if watch.done():
                raise ClientGoneError from None
            raise
        finally:
            finished = True
            watch.cancel()
            self._waiting.end(exchange)

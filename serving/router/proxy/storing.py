"""Has the answers to /v1/responses stored."""

import asyncio
import datetime

import msgspec
from msgspec.structs import replace
from starlette.types import Scope

from serving.asgi import Headers, send_response
from serving.mistral import InvalidRequest
from serving.mistral.draft import objects_in
from serving.requests.response_tools import with_formats
from serving.requests.responses import read
from serving.router.proxy.exchange import Exchange, kept_headers
from serving.router.proxy.request import invalid, warn
from serving.router.responses.background import BackgroundRun, RunRequest
from serving.router.responses.objects import parsed
from serving.router.responses.responses import Responses
from serving.router.responses.streaming import EventsResponse
from serving.tenants import Caller


async def detach(
    exchange: Exchange, responses: Responses, scope: Scope, caller: Caller
) -> BackgroundRun:
    """Answers the client that the response is queued, or has it told of the events from now on, and
    puts a run in the background in its place, which it returns. Raises ApiError for an invalid
    request as well, of which the client would else learn only from the failed response."""
    assert exchange.turn is not None
    model = exchange.served.model
    name, repeated = model.model_id, parsed(exchange.turn.raw)
    if model.backend is None and model.rules is not None:
        try:
            request, options = read(exchange.request.body, model.rules, datetime.date.today())
        except InvalidRequest as error:
            raise invalid(error) from None
        repeated = options.echoed
        if exchange.adapter is not None:
            name = request.model or name
    elif model.rules is not None:
        given = {field: value for field, value in repeated.items() if value is not None}
        tools = with_formats(objects_in(given.get("tools")))
        repeated = {**model.rules.sampling, **given, "tools": tools}
    headers = kept_headers(scope["headers"], exchange)
    again = RunRequest(exchange.turn.raw, headers, caller.key_id, caller.max_priority)
    run = await responses.runs.begin(exchange.turn, name, repeated, msgspec.msgpack.encode(again))
    receive, send = exchange.receive, exchange.send
    run_in_background(exchange, run)
    if run.log is not None:
        events = await responses.runs.follow(*run.key, 0)
        told = EventsResponse(events, exchange.headers)(scope, receive, send)
        run.client = asyncio.create_task(told)
        return run
    body = run.stored.response
    answer_headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *exchange.headers,
    ]
    await send_response(send, 200, answer_headers, body)
    return run


def run_in_background(exchange: Exchange, run: BackgroundRun) -> None:
    """Puts a run in the place of the client. What another router had of its answer goes on: raises
    ApiError if that cannot be continued."""
    exchange.run = run
    exchange.receive, exchange.send = run.receive, run.send
    exchange.demand = replace(exchange.demand, timeout_s=None)  # no one waits
    if run.log is None:
        return
    exchange.resumption.keeps_comments = True
    if (told := run.log.told_before()) is not None:
        run.goes_on()
        exchange.begun = True
        exchange.resumption.goes_on(told.mark, told.events)
        exchange.record.cached_tokens = told.cached_tokens


async def keep_whole(
    exchange: Exchange, responses: Responses, body: bytes, headers: Headers
) -> None:
    """Stores a whole answer before it is sent, so that the client can continue it at once. Adds a
    warning to `headers` if it cannot be stored."""
    if exchange.turn is not None and exchange.run is None:
        warning = await responses.answered(exchange.turn, body)
        if warning is not None:
            warn(headers, warning)

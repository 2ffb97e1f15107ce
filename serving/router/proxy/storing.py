"""Has the answers to /v1/responses stored."""

import datetime
from dataclasses import replace

from serving.asgi import Headers, send_response
from serving.mistral import InvalidRequest
from serving.requests.responses import read
from serving.router.proxy.exchange import Exchange
from serving.router.proxy.request import invalid, warn
from serving.router.responses.responses import Responses


async def detach(exchange: Exchange, responses: Responses) -> None:
    """Answers the client that the response is queued, and puts a run in the background in its
    place. Raises ApiError for an invalid request as well, of which the client would else learn only
    from the failed response."""
    assert exchange.turn is not None
    model = exchange.served.model
    if model.backend is None and model.rules is not None:
        try:
            read(exchange.request.body, model.rules, datetime.date.today())
        except InvalidRequest as error:
            raise invalid(error) from None
    run = await responses.begin(exchange.turn, model.model_id)
    exchange.run = run
    body = run.body_of_response()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *exchange.headers,
    ]
    await send_response(exchange.send, 200, headers, body)
    exchange.receive, exchange.send = run.receive, run.send
    exchange.demand = replace(exchange.demand, timeout_s=None)  # no one waits


async def keep_whole(
    exchange: Exchange, responses: Responses, body: bytes, headers: Headers
) -> None:
    """Stores a whole answer before it is sent, so that the client can continue it at once. Adds a
    warning to `headers` if it cannot be stored."""
    if exchange.turn is not None and exchange.run is None:
        warning = await responses.answered(exchange.turn, body)
        if warning is not None:
            warn(headers, warning)
